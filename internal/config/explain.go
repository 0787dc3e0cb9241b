package config

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"

	"gapless"
)

// Setting is one key of gapless.yaml as it is in force.
type Setting struct {
	Key   string `json:"key"`
	Value any    `json:"value"` // what would be written; of env the names alone
	From  string `json:"from"`  // "gapless.yaml:3", "package.json", "--listen", "default"
}

// Explain says what configures an app, and where each value comes from, in
// the order of the reference. Values of variables are not in it.
func Explain(in Input) ([]Setting, error) {
	return explain(in, runtime.GOMAXPROCS(0))
}

func explain(in Input, cpus int) ([]Setting, error) {
	now := in // what was given this time
	s, in, err := settle(in, cpus)
	if err != nil {
		return nil, err
	}
	var out []Setting
	add := func(key string, value any, flag, otherwise string) {
		from := otherwise
		at, given := s.where[key]
		switch {
		case flag != "":
			from = flag
		case given:
			from = at.file + ":" + strconv.Itoa(at.line)
		}
		out = append(out, Setting{key, value, from})
	}
	a, web := s.app, s.app.Process(gapless.WebProcess)
	add("app", a.Name, flagOf(in.Name != "", now.Name != "", "--name"), "package.json or the directory")
	if web != nil {
		run := any(web.Run)
		if web.Run == "" {
			run = nil
		}
		add("run", run, flagOf(len(in.Args) > 0, len(now.Args) > 0, "the command line"), "package.json or server.js")
	}
	switch {
	case a.Build != "":
		add("build", a.Build, "", "package.json")
	default:
		add("build", false, "", "default")
	}
	if web != nil {
		add("instances", web.Instances, flagOf(in.Instances > 0, now.Instances > 0, "--instances"), "default")
		if web.Memory > 0 {
			add("memory", size(web.Memory), "", "default")
		}
		if web.CPU > 0 {
			add("cpu", web.CPU, "", "default")
		}
		add("listen", a.Listen, flagOf(len(in.Listen) > 0, len(now.Listen) > 0, "--listen"), "default")
		hosts := "hosts"
		if s.given["host"] {
			hosts = "host"
		}
		if len(a.Hosts) > 0 {
			add(hosts, a.Hosts, "", "default")
		}
		add("path", a.Path, "", "default")
		if s.given["strip"] {
			add("strip", a.Strip, "", "default")
		}
		if s.given["sticky"] {
			sticky := any(false)
			if a.Sticky > 0 {
				sticky = a.Sticky.String()
			}
			add("sticky", sticky, "", "default")
		}
		if len(a.Match) > 0 {
			var rules []any
			for _, m := range a.Match {
				rules = append(rules, carried(m.Header, m.Value, m.Cookie, m.Content))
			}
			add("match", rules, "", "default")
		}
		if a.Skew != "" {
			add("skew", a.Skew, "", "default")
		}
		if a.TLS != nil {
			add("tls", tlsShown(a.TLS), "", "default")
		}
		health := map[string]any{"interval": a.Health.Interval.String(), "timeout": a.Health.Timeout.String()}
		if a.Health.Path != "" {
			health["path"] = a.Health.Path
		}
		for name, n := range map[string]int{"healthy": a.Health.Healthy, "unhealthy": a.Health.Unhealthy} {
			if n > 0 {
				health[name] = n
			}
		}
		add("health", health, "", "default")
		add("balance", explainBalance(a.Balance.InForce()), "", "default")
		if a.Protocol != "" {
			add("protocol", a.Protocol, "", "default")
		}
		if len(a.Forwarding.Trusted) > 0 {
			add("trusted_proxies", a.Forwarding.Trusted, "", "default")
		}
		if len(a.Forwarding.Proxies) > 0 {
			add("proxy_protocol", a.Forwarding.Proxies, "", "default")
		}
		if a.Forwarding.Trace != "" {
			add("trace", a.Forwarding.Trace, "", "default")
		}
		if s.given["access_log"] {
			add("access_log", explainAccessLog(a.AccessLog), "", "default")
		}
		if s.given["socket"] {
			add("socket", explainSocket(&a), "", "default")
		}
	}
	for _, d := range []struct {
		key   string
		value gapless.Duration
	}{{"drain", a.Drain}, {"grace", a.Grace}, {"start_timeout", a.StartTimeout}, {"hold", a.Hold}, {"soak", a.Soak}} {
		add(d.key, d.value.String(), "", "default")
	}
	if len(a.Steps) > 0 {
		var steps []string
		for _, st := range a.Steps {
			steps = append(steps, st.String())
		}
		add("steps", steps, "", "default")
	} else {
		add("strategy", a.Strategy, "", "default")
	}
	if s.given["judge"] {
		add("judge", judgeShown(a.Judge), "", "default")
	}
	if s.given["mirror"] {
		add("mirror", mirrorShown(a.Mirror), "", "default")
	}
	if s.given["keep"] {
		add("keep", a.Keep.String(), "", "default")
	}
	if s.given["flip"] {
		add("flip", a.Flip, "", "default")
	}
	if p := a.Preview; p != nil {
		shown := carried(p.Header, p.Value, p.Cookie, p.Content)
		if p.Host != "" {
			shown["host"] = p.Host
		}
		add("preview", shown, "", "default")
	}
	if web != nil {
		add("limits", limitsShown(a.Limits.InForce()), "", "default")
		add("timeouts", timeoutsShown(a.Timeouts.InForce()), "", "default")
	}
	if s.given["error_pages"] {
		add("error_pages", pagesShown(a.ErrorPages), "", "default")
	}
	if len(a.Shared) > 0 {
		add("shared", a.Shared, "", "default")
	}
	if len(a.Assets) > 0 {
		add("assets", a.Assets, "", "default")
	}
	if kept := a.Releases; kept != (gapless.ReleasePolicy{}) {
		shown := map[string]any{}
		if kept.Keep > 0 {
			shown["keep"] = kept.Keep
		}
		if kept.MaxAge > 0 {
			shown["max_age"] = kept.MaxAge.String()
		}
		add("releases", shown, "", "default")
	}
	if a.User != "" {
		add("user", a.User, "", "default")
	}
	if names := slices.Sorted(maps.Keys(a.Env)); len(names) > 0 {
		add("env", names, flagOf(len(now.Env) > 0 && !s.given["env"], true, "--env"), "default")
	}
	if len(a.EnvFiles) > 0 {
		add("env_file", a.EnvFiles, flagOf(len(in.EnvFiles) > 0 && !s.given["env_file"], len(now.EnvFiles) > 0, "--env-file"), "default")
	}
	add("logs", map[string]any{"max_size": size(a.Logs.MaxSize), "max_age": a.Logs.MaxAge.String(), "keep": a.Logs.Keep}, "", "default")
	if len(a.Notify) > 0 {
		add("notify", notifyShown(a.Notify), "", "default")
	}
	if a.SLO > 0 {
		add("slo", gapless.Objective(a.SLO), "", "default")
	}
	if s.given["alerts"] {
		add("alerts", alertsShown(a.Alerts), "", "default")
	}
	processes := map[string]any{}
	for _, p := range a.Processes {
		if !p.Web() {
			processes[p.Name] = processShown(p)
		}
	}
	if len(processes) > 0 {
		add("processes", processes, "", "default")
	}
	return out, nil
}

// carried is what a request carries, as one writes it.
func carried(header, value, cookie, content string) map[string]any {
	out := map[string]any{}
	if header != "" {
		out["header"] = header + ": " + value
	}
	if cookie != "" {
		out["cookie"] = cookie + "=" + content
	}
	return out
}

// flagOf names a flag that says something, now or the last time.
func flagOf(says, now bool, flag string) string {
	switch {
	case !says:
		return ""
	case now:
		return flag
	}
	return flag + " of the last time"
}

func processShown(p gapless.Process) map[string]any {
	out := map[string]any{"run": p.Run, "instances": p.Instances}
	if p.Singleton {
		out["singleton"] = true
	}
	if p.Cron != "" {
		out["cron"] = p.Cron
		delete(out, "instances")
	}
	if p.Memory > 0 {
		out["memory"] = size(p.Memory)
	}
	if p.CPU > 0 {
		out["cpu"] = p.CPU
	}
	if len(p.Env) > 0 {
		out["env"] = slices.Sorted(maps.Keys(p.Env))
	}
	return out
}

// size writes bytes as people do, in the largest unit that keeps them whole.
func size(n int64) string {
	for _, u := range []struct {
		shift uint
		unit  string
	}{{40, "T"}, {30, "G"}, {20, "M"}, {10, "K"}} {
		if n > 0 && n%(1<<u.shift) == 0 {
			return fmt.Sprintf("%d%s", n>>u.shift, u.unit)
		}
	}
	return strconv.FormatInt(n, 10)
}

// explainBalance is balance: as it holds; limits that are none are left out.
func explainBalance(b gapless.Balance) map[string]any {
	out := map[string]any{"slow_start": b.SlowStart.String(), "eject": !b.NoEject}
	if b.Stable > 0 {
		out["stable"] = b.Stable
	}
	if b.Candidate > 0 {
		out["candidate"] = b.Candidate
	}
	if b.Retries > 0 {
		out["retries"] = b.Retries
	}
	return out
}
