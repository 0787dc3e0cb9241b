package pm2

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"gapless"
)

// write makes one file. The first unit is the web process if it serves HTTP.
func write(part []*unit, name string, opt Options) File {
	first := part[0]
	f := File{Dir: first.dir, Name: name, App: first.name}
	var b strings.Builder
	line := func(indent int, format string, args ...any) {
		b.WriteString(strings.Repeat("  ", indent))
		fmt.Fprintf(&b, format+"\n", args...)
	}
	line(0, "# Made of PM2's ecosystem file by: gapless import pm2")
	line(0, "# Everything has a default; gapless plan shows what a deploy would do.")
	line(0, "app: %s", yaml(first.name))
	var grace, start time.Duration
	user := ""
	for _, u := range part {
		grace = max(grace, u.milliseconds("kill_timeout", 0, 10*time.Minute))
		if u.http {
			start = u.milliseconds("listen_timeout", time.Second, time.Hour)
		} else if u.app["listen_timeout"] != nil {
			u.note("listen_timeout", Left, "it is of the web process alone")
		}
		if who := u.user(); who != "" && user == "" {
			user = who
		} else if who != "" && who != user {
			u.note("uid", Left, "an app has one user, which is %s here", user)
		}
	}
	rest := part
	if first.http {
		rest = part[1:]
		line(0, "run: %s", yaml(first.command()))
		line(0, "instances: %s", orOne(first.count(opt)))
		if first.port != "" {
			line(0, "listen: %s  # where people reach the app; each instance gets a PORT of its own", yaml(":"+first.port))
		} else {
			line(0, "# listen: :8080  # where people reach the app; each instance gets a PORT of its own")
		}
		if m := first.memory(); m != "" {
			line(0, "memory: %s  # an instance over it is replaced without a gap", m)
		}
		line(0, "# health: /healthz  # a path that says whether the app is well; without it, an accepted connection does")
	}
	if !first.http {
		line(0, "run: false  # no web process: nothing here serves HTTP")
	}
	if start > 0 {
		line(0, "start_timeout: %s  # an instance that is not ready by then is taken back; PM2 went on", start)
		first.note("listen_timeout", Carried, "it is start_timeout: PM2 went on when it was over, here the release is taken back. Raise it if the app may start slowly")
	}
	if grace > 0 {
		line(0, "grace: %s  # between SIGTERM, sent when nothing is in flight any more, and SIGKILL", grace)
	}
	if user != "" {
		line(0, "user: %s", yaml(user))
	}
	if first.http {
		env(line, 0, "env", first)
		f.Secrets = append(f.Secrets, first.keep...)
		if len(rest) > 0 && len(first.env)+len(first.keep) > 0 {
			first.note("env", Carried, "the other processes get it, too; their own env goes over it")
		}
	}
	if len(rest) > 0 {
		line(0, "processes:")
	}
	for _, u := range rest {
		if u.name == gapless.WebProcess {
			u.name = "web-process"
			u.note("name", Carried, "web became %s: web is the process that serves HTTP", u.name)
		}
		line(1, "%s:", yaml(u.name))
		line(2, "run: %s", yaml(u.command()))
		if u.port != "" {
			u.note("port", Left, "only the web process gets traffic")
		}
		if n := u.count(opt); u.cron != "" {
			line(2, "cron: %s", yaml(u.cron))
			if n != "" && n != "1" {
				u.note("instances", Left, "a process with cron runs once per time of its schedule")
			}
		} else if n != "" {
			line(2, "instances: %s", n)
		}
		if m := u.memory(); m != "" {
			line(2, "memory: %s", m)
		}
		env(line, 2, "env", u)
		f.Secrets = append(f.Secrets, u.keep...)
	}
	slices.Sort(f.Secrets)
	f.Secrets = slices.Compact(f.Secrets)
	f.Text = b.String()
	return f
}

func orOne(n string) string {
	if n == "" {
		return "1"
	}
	return n
}

// env writes the variables of a unit, and the names of those that were kept out.
func env(line func(int, string, ...any), indent int, key string, u *unit) {
	if len(u.env) > 0 {
		line(indent, "%s:", key)
		for _, name := range slices.Sorted(maps.Keys(u.env)) {
			line(indent+1, "%s: %s", name, yaml(u.env[name]))
		}
	}
	for _, name := range u.keep {
		line(indent, "# %s looks like a secret: gapless secrets set %s", name, name)
	}
}

var userForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*\$?$`)

// user is the system user; a number has no name here.
func (u *unit) user() string {
	for _, field := range []string{"uid", "username"} {
		who := u.text(field)
		if who == "" {
			continue
		}
		if userForm.MatchString(who) {
			return who
		}
		u.note(field, Left, "write the user's name: user: NAME")
	}
	return ""
}

var plainScalar = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$`)

// yaml writes text as a scalar that is read as just that text.
func yaml(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "null", "y", "n":
		return `"` + s + `"`
	}
	if plainScalar.MatchString(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < ' ' || r >= 0x7f && r < 0xa0:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r == 0x2028 || r == 0x2029 || r == 0xfeff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
