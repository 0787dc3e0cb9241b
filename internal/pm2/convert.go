package pm2

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gapless"
)

// Options say how to convert.
type Options struct {
	Dir  string // absolute directory of the ecosystem file
	Env  string // take the variables of env_<Env> over those of env; "": none
	CPUs int    // what a number of instances below 1 counts from
}

// Result is what an ecosystem became.
type Result struct {
	Files []File `json:"files"`
	Notes []Note `json:"notes"`
}

// File is one gapless.yaml.
type File struct {
	Dir     string   `json:"dir"` // absolute
	Name    string   `json:"name"`
	App     string   `json:"app"`
	Secrets []string `json:"secrets,omitempty"` // variables that were left out because they look secret
	Text    string   `json:"-"`
}

// Note is what became of one field of one app.
type Note struct {
	App   string `json:"app"`
	Field string `json:"field"`
	Fate  Fate   `json:"fate"`
	Why   string `json:"why"`
}

// unit is one app of PM2 on its way into a file.
type unit struct {
	app
	name  string            // made to fit
	dir   string            // absolute
	env   map[string]string // without PORT and secrets
	keep  []string          // names of secrets
	port  string
	cron  string
	http  bool // it shows that it serves HTTP
	notes []Note
}

// Convert makes the files. Apps of one directory become one file: the one that
// serves HTTP its web process, the others its further processes. A second one
// that serves HTTP in the same directory becomes a file of its own.
func Convert(e *Ecosystem, opt Options) (*Result, error) {
	if known := e.Environments(); opt.Env != "" && !slices.Contains(known, opt.Env) {
		err := gapless.Errorf(gapless.Invalid, "no app has env_%s", opt.Env)
		if len(known) > 0 {
			return nil, err.WithHint("there are: --env %s", strings.Join(known, ", --env "))
		}
		return nil, err.WithHint("leave --env out: no app has other variables than env")
	}
	var groups [][]*unit
	used := map[string]bool{}
	for _, a := range e.apps {
		u := newUnit(a, opt)
		for base, n := u.name, 2; used[u.name]; n++ {
			u.name = fmt.Sprintf("%s-%d", base, n)
		}
		used[u.name] = true
		i := slices.IndexFunc(groups, func(g []*unit) bool { return g[0].dir == u.dir })
		if i < 0 {
			groups = append(groups, nil)
			i = len(groups) - 1
		}
		groups[i] = append(groups[i], u)
	}
	res := &Result{}
	for _, g := range groups {
		for i, part := range divide(g) {
			name := "gapless.yaml"
			if i > 0 {
				name = "gapless." + part[0].name + ".yaml"
			}
			res.Files = append(res.Files, write(part, name, opt))
		}
		for _, u := range g {
			res.Notes = append(res.Notes, u.notes...)
		}
	}
	if e.deploy {
		res.Notes = append(res.Notes, Note{Field: "deploy", Fate: Left, Why: fields["deploy"].why})
	}
	return res, nil
}

func (u *unit) note(field string, fate Fate, format string, args ...any) {
	u.notes = append(u.notes, Note{App: u.name, Field: field, Fate: fate, Why: fmt.Sprintf(format, args...)})
}

var notName = regexp.MustCompile(`[^a-z0-9]+`)

// label makes a valid name of any text.
func label(s string) string {
	s = strings.Trim(notName.ReplaceAllString(strings.ToLower(s), "-"), "-")
	if len(s) > 36 { // leaves room for a number
		s = strings.Trim(s[:36], "-")
	}
	return cmp.Or(s, "app")
}

func newUnit(a app, opt Options) *unit {
	given := cmp.Or(a.text("name"), strings.TrimSuffix(filepath.Base(a.text("script")), filepath.Ext(a.text("script"))))
	u := &unit{app: a, name: label(given), dir: opt.Dir, env: map[string]string{}}
	if dir := a.text("cwd"); dir != "" {
		if u.dir = filepath.Clean(dir); !filepath.IsAbs(dir) {
			u.dir = filepath.Join(opt.Dir, dir)
		}
		if info, err := os.Stat(u.dir); err != nil || !info.IsDir() {
			u.note("cwd", Left, "%s is no directory on this machine; the file is made for %s", u.dir, opt.Dir)
			u.dir = opt.Dir
		}
	}
	for _, field := range slices.Sorted(maps.Keys(a)) {
		u.look(field, opt)
	}
	if u.name != given && a["name"] != nil {
		u.note("name", Carried, "%s became %s: names are a-z, 0-9 and -", strconv.Quote(given), u.name)
	}
	u.environment(opt)
	if a["cron_restart"] != nil {
		u.schedule()
	}
	mode := a.text("exec_mode")
	u.http = u.cron == "" && (u.port != "" || strings.HasPrefix(mode, "cluster") || mode == "" && a["instances"] != nil)
	return u
}

// look notes the fate of a field that is not decided elsewhere.
func (u *unit) look(field string, opt Options) {
	if name, is := strings.CutPrefix(field, "env_"); is {
		if name != opt.Env {
			u.note(field, Left, "it was not chosen; to have its variables over those of env: gapless import pm2 --env %s", name)
		}
		return
	}
	r, known := fields[field]
	switch {
	case !known:
		u.note(field, Left, "it is no field of PM2 that gapless knows of")
	case r.fate == Carried:
	case (field == "vizion" || field == "autorestart" || field == "watch" || field == "autostart" || r.fate == Left) && u.text(field) == "false":
		// it was switched off, and it is
		if field == "autorestart" && u.app["cron_restart"] == nil {
			u.note(field, Left, "a process that ends is started again; what should run once per release is build or a hook")
		}
	default:
		u.note(field, r.fate, "%s", r.why)
	}
}

// environment takes in env and the chosen env_ block.
func (u *unit) environment(opt Options) {
	u.port = u.text("port")
	for _, field := range []string{"env", "env_" + opt.Env} {
		block, ok := u.app[field].(map[string]any)
		if !ok {
			if u.app[field] != nil {
				u.note(field, Left, "it is not a map of names and values")
			}
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(block)) {
			value, plain := scalar(block[name])
			if block[name] == nil {
				continue
			}
			if !plain {
				text, err := json.Marshal(block[name])
				if err != nil {
					continue // it was JSON
				}
				value = string(text)
				u.note(field+"."+name, Carried, "it is no text; its JSON was taken")
			}
			delete(u.env, name)
			u.keep = slices.DeleteFunc(u.keep, func(k string) bool { return k == name })
			err := gapless.CheckVariable(name)
			switch {
			case name == "PORT":
				u.port = value
			case err != nil:
				u.note(field+"."+name, Left, "%s", err.Message)
			case strings.ContainsRune(value, 0):
				u.note(field+"."+name, Left, "its value holds a NUL byte")
			case gapless.LooksSecret(name, value):
				u.keep = append(u.keep, name)
			default:
				u.env[name] = value
			}
		}
	}
	slices.Sort(u.keep)
	for _, name := range u.keep {
		u.note("env."+name, Left, "it looks like a secret, and gapless.yaml is a file that people share: gapless secrets set %s", name)
	}
	if n, err := strconv.Atoi(u.port); u.port != "" && (err != nil || n < 1 || n > 65535) {
		u.note("port", Left, "it is no port number")
		u.port = ""
	}
}

var fiveFields = regexp.MustCompile(`^\S+( +\S+){4}$`)

// schedule takes in cron_restart: a process that ends by itself and is started
// by it is a cron process; one that runs all the time is restarted by it.
func (u *unit) schedule() {
	cron := strings.TrimSpace(u.text("cron_restart"))
	switch {
	case cron == "" || cron == "0" || cron == "false": // PM2's way to switch it off
	case u.text("autorestart") != "false":
		u.note("cron_restart", Left, "nothing restarts an app by a schedule; if it must be, this line in crontab does it without a gap: %s cd %s && gapless restart", cron, u.dir)
	case !fiveFields.MatchString(cron):
		u.note("cron_restart", Left, "%s does not have five fields", strconv.Quote(cron))
	default:
		u.cron = cron
	}
}

// divide makes files of the apps of one directory. The first of each is its
// web process, if it has one.
func divide(g []*unit) [][]*unit {
	var web, rest []*unit
	for _, u := range g {
		if u.http {
			web = append(web, u)
		} else {
			rest = append(rest, u)
		}
	}
	if len(web) == 0 {
		if i := likelyWeb(rest); i >= 0 {
			u := rest[i]
			u.http = true
			u.note("exec_mode", Carried, "it was taken for the process that serves HTTP; if it serves none, move it under processes: in gapless.yaml")
			web, rest = []*unit{u}, slices.Delete(slices.Clone(rest), i, i+1)
		}
	}
	for _, u := range rest {
		if u.cron == "" {
			u.note("exec_mode", Carried, "it became a process beside the web process; if it serves HTTP, give it a gapless.yaml of its own with run:")
		}
	}
	if len(web) == 0 {
		return [][]*unit{rest}
	}
	out := [][]*unit{append([]*unit{web[0]}, rest...)}
	for _, u := range web[1:] {
		out = append(out, []*unit{u})
	}
	return out
}

var webName = regexp.MustCompile(`(^|-)(web|www|http|api|app|server|site|frontend|backend)(-|$)`)

// likelyWeb is the app that most likely serves HTTP where none says so; -1: none.
func likelyWeb(list []*unit) int {
	only := -1
	for i, u := range list {
		if u.cron != "" {
			continue
		}
		if webName.MatchString(u.name) {
			return i
		}
		if only >= 0 {
			only = len(list) // more than one
		} else {
			only = i
		}
	}
	if only == len(list) {
		return -1
	}
	return only
}

// command is run: the words that PM2 would start, for a shell to read.
func (u *unit) command() string {
	script := u.text("script")
	if filepath.IsAbs(script) {
		if rel, err := filepath.Rel(u.dir, script); err == nil && filepath.IsLocal(rel) {
			script = rel
		} else {
			u.note("script", Carried, "%s is outside of %s, so it is no part of a release: changes to it take effect at once", script, u.dir)
		}
	}
	script = strings.TrimPrefix(filepath.Clean(script), "./")
	info, err := os.Stat(filepath.Join(u.dir, script))
	if filepath.IsAbs(script) {
		info, err = os.Stat(script)
	}
	file := err == nil && info.Mode().IsRegular()
	interpreter := u.text("interpreter")
	if interpreter == "" {
		interpreter = map[string]string{".js": "node", ".cjs": "node", ".mjs": "node", ".ts": "node", ".py": "python3", ".sh": "bash",
			".rb": "ruby", ".php": "php", ".pl": "perl", ".coffee": "coffee"}[filepath.Ext(script)]
		if interpreter == "" {
			interpreter = "none"
			if file && info.Mode()&0o111 == 0 {
				interpreter = "node"
			}
		}
	}
	var words []string
	if interpreter == "none" {
		if file && !strings.Contains(script, "/") {
			script = "./" + script
		}
		words = append(words, split(script)...)
	} else {
		more, ok := u.words("node_args")
		if !ok {
			u.note("node_args", Left, "it is neither text nor a list of texts")
		}
		words = append(append(append(words, interpreter), more...), script)
	}
	more, ok := u.words("args")
	if !ok {
		u.note("args", Left, "it is neither text nor a list of texts")
	}
	words = append(words, more...)
	for i, w := range words {
		words[i] = shellWord(w)
	}
	if !file && interpreter != "none" {
		u.note("script", Carried, "%s is no file in %s yet", script, u.dir)
	}
	return strings.Join(words, " ")
}

// shellWord quotes a word where a shell would read something else.
func shellWord(w string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+:,./@%"
	name, value, set := strings.Cut(w, "=")
	if w != "" && (strings.Trim(w, plain) == "" || set && strings.HasPrefix(name, "-") && strings.Trim(name+value, plain) == "") {
		return w
	}
	return "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
}

// count is instances: "" for the default, "max", or a number.
func (u *unit) count(opt Options) string {
	text := u.text("instances")
	switch n, err := strconv.Atoi(text); {
	case text == "":
		return ""
	case text == "max" || err == nil && n == 0:
		return "max"
	case err != nil || n > 1000:
		u.note("instances", Left, "%s is no number of instances", strconv.Quote(text))
		return ""
	case n < 0:
		n = max(1, opt.CPUs+n)
		u.note("instances", Carried, "%s, counted from all processors, is %d on this machine", text, n)
		return strconv.Itoa(n)
	default:
		return strconv.Itoa(n)
	}
}

var memoryForm = regexp.MustCompile(`^([0-9]+)([KMG]?)B?$`)

// memory is max_memory_restart as a size; "" if there is none.
func (u *unit) memory() string {
	text := strings.ToUpper(u.text("max_memory_restart"))
	if text == "" || text == "0" {
		return ""
	}
	m := memoryForm.FindStringSubmatch(text)
	if m == nil {
		u.note("max_memory_restart", Left, "%s is no size", strconv.Quote(text))
		return ""
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	shift := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30}[m[2]]
	if err != nil || n > 1<<50>>shift || n<<shift < 1<<20 {
		u.note("max_memory_restart", Left, "%s is no size that an app could live in", strconv.Quote(text))
		return ""
	}
	return m[1] + m[2]
}

// milliseconds is a field as a duration between lo and hi; 0 if it has none.
func (u *unit) milliseconds(field string, lo, hi time.Duration) time.Duration {
	text := u.text(field)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		u.note(field, Left, "%s is no number of milliseconds", strconv.Quote(text))
		return 0
	}
	d := time.Duration(min(n, hi.Milliseconds())) * time.Millisecond
	if d < lo || n > hi.Milliseconds() {
		d = max(d, lo)
		u.note(field, Carried, "it was %d ms, and has to be between %s and %s", n, lo, hi)
	}
	return d
}
