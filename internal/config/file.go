package config

import (
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

// FileName is the configuration file of an app, in the app's directory.
const FileName = "gapless.yaml"

// Limits of what is read, in bytes. The YAML parser's time grows with the
// square of the size; this much takes it about a second.
const (
	maxFile = 1 << 20
	maxYAML = 128 << 10
)

// laterKeys are words of the design that a person may try already.
var laterKeys = []string{
	"flags", "migrate", "migrations", "image", "driver",
}

// settings is what gapless.yaml says, before package.json and the command
// line have had their word.
type settings struct {
	app       gapless.App
	web       gapless.Process
	processes []gapless.Process
	webless   bool             // run: false
	built     bool             // build was given, an empty App.Build is meant
	webKeys   []place          // where keys stand that only make sense with a web process
	envFiles  []place          // where App.EnvFiles[i] was named
	cpus      int              // what "max" means
	given     map[string]bool  // top-level keys of the file
	where     map[string]place // the places of their values
	tlsWords  *secured         // nil: nothing speaks https
	plan      []placed         // the user's own steps
	broken    bool             // a step of plan could not be read
}

func defaults(dir string, cpus int) *settings {
	const second = gapless.Duration(time.Second)
	return &settings{
		cpus:  cpus,
		given: map[string]bool{},
		where: map[string]place{},
		web:   gapless.Process{Name: gapless.WebProcess, Instances: min(cpus, 4)},
		app: gapless.App{
			Source:       dir,
			Listen:       []string{":8080"},
			Path:         "/",
			Health:       gapless.Health{Interval: 2 * second, Timeout: 2 * second},
			Balance:      gapless.Balance{SlowStart: 30 * second},
			Drain:        30 * second,
			Grace:        10 * second,
			StartTimeout: 60 * second,
			Hold:         5 * second,
			Soak:         10 * second,
			Strategy:     gapless.StrategyRolling,
			Logs:         gapless.LogPolicy{MaxSize: 50 << 20, MaxAge: 24 * 3600 * second, Keep: 10},
		},
	}
}

// readFile reads one whole file of at most limit bytes.
func readFile(path string, limit int) ([]byte, *fault) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, faultf("cannot be read: %s", plain(err))
	case !info.Mode().IsRegular():
		return nil, faultf("is not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, faultf("cannot be read: %s", plain(err))
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	switch {
	case err != nil:
		return nil, faultf("cannot be read: %s", plain(err))
	case len(data) > limit:
		return nil, faultf("is larger than %d KiB", limit>>10)
	}
	return []byte(strings.TrimPrefix(string(data), "\ufeff")), nil
}

// plain is an I/O error without the operation and path that the message already names.
func plain(err error) string {
	if i := strings.LastIndex(err.Error(), ": "); i >= 0 {
		return err.Error()[i+2:]
	}
	return err.Error()
}

// read takes in the file's content; name is what messages call it.
func (s *settings) read(name string, data []byte, p *problems) {
	r := newReader(name, data, p)
	if body := r.parse(data); body != nil {
		r.object(body, "", s.keys(r))
	}
}

// keys are the top-level keys of gapless.yaml.
func (s *settings) keys(r *reader) map[string]setter {
	a := &s.app
	keys := map[string]setter{
		"app":             r.str(&a.Name, "app", checkName),
		"run":             s.run(r),
		"build":           s.build(r),
		"instances":       s.ofWeb(r, s.instances(r, &s.web.Instances)),
		"memory":          s.ofWeb(r, r.memory(&s.web.Memory)),
		"cpu":             s.ofWeb(r, r.cpu(&s.web.CPU)),
		"listen":          s.ofWeb(r, r.list(&a.Listen, "listen", parseListen)),
		"host":            s.ofWeb(r, r.list(&a.Hosts, "host", parseServed)),
		"hosts":           s.ofWeb(r, r.list(&a.Hosts, "hosts", parseServed)),
		"path":            s.ofWeb(r, r.str(&a.Path, "path", checkPath)),
		"strip":           s.ofWeb(r, r.boolean(&a.Strip, "strip")),
		"sticky":          s.ofWeb(r, r.sticky(&a.Sticky)),
		"match":           s.ofWeb(r, r.match(&a.Match)),
		"skew":            s.ofWeb(r, r.word(&a.Skew, "skew", []string{gapless.SkewPin})),
		"health":          s.ofWeb(r, r.health(&a.Health)),
		"balance":         s.ofWeb(r, r.balance(&a.Balance)),
		"protocol":        s.ofWeb(r, r.word(&a.Protocol, "protocol", []string{gapless.ProtocolHTTP, gapless.ProtocolH2C})),
		"trusted_proxies": s.ofWeb(r, r.list(&a.Forwarding.Trusted, "trusted_proxies", parseNetwork)),
		"proxy_protocol":  s.ofWeb(r, r.list(&a.Forwarding.Proxies, "proxy_protocol", parseNetwork)),
		"trace":           s.ofWeb(r, r.word(&a.Forwarding.Trace, "trace", []string{gapless.TracePass})),
		"socket":          s.ofWeb(r, r.socket(a)),
		"drain":           r.duration(&a.Drain, "drain", 0, time.Hour),
		"grace":           r.duration(&a.Grace, "grace", 0, 10*time.Minute),
		"start_timeout":   r.duration(&a.StartTimeout, "start_timeout", time.Second, time.Hour),
		"hold":            r.duration(&a.Hold, "hold", 0, 5*time.Minute),
		"soak":            r.duration(&a.Soak, "soak", 0, 24*time.Hour),
		"strategy":        r.word(&a.Strategy, "strategy", strategies),
		"steps":           s.ofWeb(r, s.steps(r)),
		"judge":           s.ofWeb(r, r.judge(&a.Judge)),
		"mirror":          s.ofWeb(r, r.mirror(&a.Mirror)),
		"keep":            s.ofWeb(r, r.duration(&a.Keep, "keep", stepMin, stepMax)),
		"flip":            s.ofWeb(r, r.boolean(&a.Flip, "flip")),
		"preview":         s.ofWeb(r, s.preview(r)),
		"limits":          s.ofWeb(r, r.limits(&a.Limits)),
		"timeouts":        s.ofWeb(r, r.timeouts(&a.Timeouts)),
		"error_pages":     s.ofWeb(r, r.errorPages(&a.ErrorPages)),
		"tls":             s.ofWeb(r, s.tls(r)),
		"shared":          r.shared(&a.Shared),
		"assets":          r.list(&a.Assets, "assets", parseAssets),
		"releases":        r.releases(&a.Releases),
		"user":            r.str(&a.User, "user", checkUser),
		"env":             r.env(&a.Env, "env"),
		"env_file":        s.envFile(r),
		"logs":            r.logs(&a.Logs),
		"access_log":      s.ofWeb(r, r.accessLog(&a.AccessLog)),
		"notify":          r.notify(&a.Notify),
		"alerts":          r.alerts(&a.Alerts),
		"slo":             s.ofWeb(r, r.slo(&a.SLO)),
		"processes":       s.processList(r),
	}
	for key, set := range keys {
		keys[key] = func(n ast.Node) {
			if key == "hosts" && s.given["host"] || key == "host" && s.given["hosts"] {
				r.fail(n, faultf("host and hosts are one key; both are given").withHint("write hosts: [a.example.com, b.example.com]"))
				return
			}
			s.given[key], s.where[key] = true, r.at(start(n))
			set(n)
		}
	}
	return keys
}

// ofWeb remembers where a key of the web process stands.
func (s *settings) ofWeb(r *reader, set setter) setter {
	return func(n ast.Node) {
		s.webKeys = append(s.webKeys, r.at(start(n)))
		set(n)
	}
}

// run reads a command, or false for an app without a web process.
func (s *settings) run(r *reader) setter {
	command := s.ofWeb(r, r.str(&s.web.Run, "run", checkRun))
	return func(n ast.Node) {
		if b, ok := n.(*ast.BoolNode); ok && !b.Value {
			s.webless = true
			return
		}
		command(n)
	}
}

func (s *settings) build(r *reader) setter {
	return func(n ast.Node) {
		s.built = true
		if b, ok := n.(*ast.BoolNode); ok && !b.Value {
			return
		}
		r.str(&s.app.Build, "build", func(v string) *fault {
			f := checkRun(v)
			if f != nil {
				f.message = strings.Replace(f.message, "run", "build", 1)
				f.hint = "write a command, or build: false for none"
			}
			return f
		})(n)
	}
}

func (s *settings) instances(r *reader, dst *int) setter {
	return func(n ast.Node) {
		if t, ok := n.(*ast.StringNode); ok {
			if t.Value == "max" {
				*dst = s.cpus
				return
			}
			if _, err := strconv.Atoi(t.Value); err != nil {
				r.fail(n, faultf("instances is %s, but must be a number or max", quote(t.Value)).withHint("max is one per processor"))
				return
			}
		}
		r.whole(dst, "instances", 1, 1000)(n)
	}
}

func (s *settings) envFile(r *reader) setter {
	return func(n ast.Node) {
		for _, it := range r.items(n, "env_file") {
			if strings.TrimSpace(it.text) == "" || strings.ContainsRune(it.text, 0) {
				r.fail(it.node, faultf("%s is not a file name", quote(it.text)))
				continue
			}
			s.addEnvFile(it.text, r.at(it.node.GetToken()))
		}
	}
}

func (s *settings) addEnvFile(name string, at place) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(s.app.Source, name)
	}
	s.app.EnvFiles = append(s.app.EnvFiles, name)
	s.envFiles = append(s.envFiles, at)
}

func (r *reader) memory(dst *int64) setter {
	return func(n ast.Node) { r.size(dst, "memory", 1<<20)(n) }
}

func (r *reader) size(dst *int64, what string, lo int64) setter {
	return func(n ast.Node) {
		s, ok := r.scalar(n, what)
		if !ok {
			return
		}
		v, f := parseSize(s)
		if f == nil && v < lo {
			f = faultf("%s is %d bytes, which is too little", what, v).withHint("write a number with its unit: 300M, 1.5G")
		}
		if f != nil {
			r.fail(n, f)
			return
		}
		*dst = v
	}
}

func (r *reader) cpu(dst *float64) setter {
	return func(n ast.Node) {
		s, ok := r.scalar(n, "cpu")
		if !ok {
			return
		}
		v, f := parseCPU(s)
		r.fail(n, f)
		*dst = v
	}
}

// health reads {path, interval, timeout}, or a path alone.
func (r *reader) health(dst *gapless.Health) setter {
	return func(n ast.Node) {
		if _, ok := n.(*ast.StringNode); ok {
			r.str(&dst.Path, "health", checkProbe)(n)
			return
		}
		r.object(n, "health", r.healthKeys(dst))
	}
}

func (r *reader) healthKeys(dst *gapless.Health) map[string]setter {
	return map[string]setter{
		"path":     r.str(&dst.Path, "path", checkProbe),
		"interval": r.duration(&dst.Interval, "interval", 100*time.Millisecond, time.Hour),
		"timeout":  r.duration(&dst.Timeout, "timeout", 10*time.Millisecond, 10*time.Minute),

		"healthy":   r.whole(&dst.Healthy, "healthy", 1, 100),
		"unhealthy": r.whole(&dst.Unhealthy, "unhealthy", 1, 100),
	}
}

func (r *reader) logs(dst *gapless.LogPolicy) setter {
	return func(n ast.Node) { r.object(n, "logs", r.logKeys(dst)) }
}

func (r *reader) logKeys(dst *gapless.LogPolicy) map[string]setter {
	return map[string]setter{
		"max_size": r.size(&dst.MaxSize, "max_size", 64<<10),
		"max_age":  r.duration(&dst.MaxAge, "max_age", time.Minute, 10000*time.Hour),
		"keep":     r.whole(&dst.Keep, "keep", 0, 1000),
	}
}

func (r *reader) releases(dst *gapless.ReleasePolicy) setter {
	return func(n ast.Node) { r.object(n, "releases", r.releaseKeys(dst)) }
}

func (r *reader) releaseKeys(dst *gapless.ReleasePolicy) map[string]setter {
	return map[string]setter{
		"keep":    r.whole(&dst.Keep, "keep", 1, 1000),
		"max_age": r.duration(&dst.MaxAge, "max_age", time.Minute, 10000*time.Hour),
	}
}

// shared refuses directories inside one another besides what parseShared refuses.
func (r *reader) shared(dst *[]string) setter {
	return func(n ast.Node) {
		r.list(dst, "shared", parseShared)(n)
		for _, outer := range *dst {
			for _, inner := range *dst {
				if strings.HasPrefix(inner, outer+"/") {
					r.fail(n, faultf("shared lists %s and %s inside it", outer, inner).withHint("list %s only", outer))
				}
			}
		}
	}
}

// env reads a map of names and values; values are the text as written.
func (r *reader) env(dst *map[string]string, what string) setter {
	return func(n ast.Node) {
		env := map[string]string{}
		r.each(n, what, func(key string, at ast.MapKeyNode, value ast.Node) {
			fail := func(f *fault) { // shows nothing behind the name: it may be a secret
				p := r.at(at.GetToken())
				if line := []rune(p.text); p.col-1+p.width < len(line) {
					p.text = string(line[:p.col-1+p.width]) + "…"
				}
				r.problems.add(p, f)
			}
			if f := checkEnvName(key); f != nil {
				fail(f)
				return
			}
			if _, empty := value.(*ast.NullNode); empty {
				fail(faultf("%s has no value", key).withHint(`write %s: "" for an empty one`, key))
				return
			}
			v, ok := r.scalar(value, key)
			if !ok {
				return
			}
			if f := checkEnvValue(key, v); f != nil {
				fail(f)
				return
			}
			env[key] = v
		})
		*dst = env
	}
}

// override puts the command line over the file.
func (s *settings) override(in Input, p *problems) {
	if in.Name != "" {
		p.add(place{file: "--name"}, checkName(in.Name))
		s.app.Name = in.Name
	}
	if len(in.Listen) > 0 {
		s.app.Listen = nil
		for _, v := range in.Listen {
			a, f := parseListen(v)
			if f == nil && slices.Contains(s.app.Listen, a) {
				f = faultf("%s is given twice", a)
			}
			p.add(place{file: "--listen"}, f)
			s.app.Listen = append(s.app.Listen, a)
		}
	}
	if in.Instances < 0 || in.Instances > 1000 {
		p.add(place{file: "--instances"}, faultf("%d is not between 1 and 1000", in.Instances))
	}
	if in.Instances > 0 {
		s.web.Instances = in.Instances
	}
	for _, name := range slices.Sorted(maps.Keys(in.Env)) {
		f := checkEnvName(name)
		if f == nil {
			f = checkEnvValue(name, in.Env[name])
		}
		p.add(place{file: "--env"}, f)
	}
	if len(in.Env) > 0 {
		if s.app.Env == nil {
			s.app.Env = map[string]string{}
		}
		maps.Copy(s.app.Env, in.Env)
	}
	for _, name := range in.EnvFiles {
		s.addEnvFile(name, place{file: "--env-file"})
	}
}
