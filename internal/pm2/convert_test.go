package pm2_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gapless"
	"gapless/internal/config"
	"gapless/internal/pm2"
)

// schema are the fields of PM2 7.0.4, without env_*, which is a pattern.
const schema = `script name name_prefix namespace cwd args interpreter node_args exec_mode instances increment_var instance_var env
filter_env append_env_to_name port watch ignore_watch watch_delay watch_options max_memory_restart cron_restart autostart autorestart
stop_exit_codes min_uptime max_restarts restart_delay exp_backoff_restart_delay kill_timeout kill_retry_time shutdown_with_message
wait_ready listen_timeout treekill force out_file error_file log_file log_type log_date_format time merge_logs disable_logs pid_file
source_map_support vizion post_update uid gid username windowsHide pmx automation trace v8 event_loop_inspector deep_monitoring io`

// convert runs the whole way, without node, and proves that the files load.
func convert(t *testing.T, ecosystem, env string) (*pm2.Result, []*gapless.App) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "top")
	for name, mode := range map[string]os.FileMode{"server.js": 0o644, "worker.js": 0o644, "tool": 0o755, "task.py": 0o644, "sub/server.js": 0o644} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("x"), mode); err != nil {
			t.Fatal(err)
		}
	}
	eco, err := pm2.Parse([]byte(strings.ReplaceAll(ecosystem, "$DIR", dir)))
	if err != nil {
		t.Fatal(err)
	}
	res, err := pm2.Convert(eco, pm2.Options{Dir: dir, Env: env, CPUs: 4})
	if err != nil {
		t.Fatal(err)
	}
	var apps []*gapless.App
	for _, f := range res.Files {
		if err := os.WriteFile(filepath.Join(f.Dir, f.Name), []byte(f.Text), 0o644); err != nil {
			t.Fatal(err)
		}
		app, err := config.Load(config.Input{Dir: f.Dir, File: f.Name})
		if err != nil {
			t.Fatalf("%s does not load: %v\n%s", f.Name, err, f.Text)
		}
		apps = append(apps, app)
	}
	return res, apps
}

func notes(res *pm2.Result, field string, fate pm2.Fate) (out []string) {
	for _, n := range res.Notes {
		if n.Field == field && n.Fate == fate {
			out = append(out, n.Why)
		}
	}
	return out
}

// Every field of the schema is either carried or accounted for with a reason,
// and one that PM2 does not have is said to be unknown.
func TestEveryField(t *testing.T) {
	carried := strings.Fields("script args interpreter node_args name cwd exec_mode instances env port cron_restart max_memory_restart kill_timeout listen_timeout uid username")
	all := strings.Fields(schema)
	if len(all) != 59 {
		t.Fatalf("%d fields", len(all))
	}
	guide, err := os.ReadFile("../../docs/from-pm2.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range all {
		if !strings.Contains(string(guide), "`"+field+"`") && !strings.HasPrefix(field, "watch") && field != "ignore_watch" {
			t.Errorf("docs/from-pm2.md does not say what becomes of %s", field)
		}
		if slices.Contains(carried, field) {
			continue // see TestCarried: each is shown to arrive
		}
		res, _ := convert(t, `{"apps": [{"script": "server.js", "`+field+`": "1"}]}`, "")
		why := append(notes(res, field, pm2.Needless), notes(res, field, pm2.Left)...)
		if len(why) != 1 || len(why[0]) < 20 || strings.Contains(why[0], "no field of PM2") {
			t.Errorf("%s: %q", field, why)
		}
	}
	for _, field := range carried {
		if !slices.Contains(all, field) {
			t.Errorf("%s is no field of PM2", field)
		}
	}
	res, _ := convert(t, `{"apps": [{"script": "server.js", "wacth": true}], "deploy": {}}`, "")
	if len(notes(res, "wacth", pm2.Left)) != 1 || len(notes(res, "deploy", pm2.Left)) != 1 {
		t.Errorf("%v", res.Notes)
	}
}

func TestCarried(t *testing.T) {
	for _, c := range []struct {
		what, app string
		env       string
		want      string // of the loaded apps, as JSON, without spaces
		note      string // "field fate", "" for none that is required
	}{
		{"script", `{"script": "./server.js"}`, "", `"run":"node server.js"`, ""},
		{"an absolute script", `{"script": "$DIR/server.js"}`, "", `"run":"node server.js"`, ""},
		{"args", `{"script": "server.js", "args": "--a 'b c' $X"}`, "", `"run":"node server.js --a 'b c' '$X'"`, ""},
		{"args as a list", `{"script": "server.js", "args": ["it's", "", 5, "a;b"]}`, "", `"run":"node server.js 'it'\\''s' '' 5 'a;b'"`, ""},
		{"node_args", `{"script": "server.js", "node_args": "--inspect --x=1"}`, "", `"run":"node --inspect --x=1 server.js"`, ""},
		{"interpreter", `{"script": "server.js", "interpreter": "/opt/node"}`, "", `"run":"/opt/node server.js"`, ""},
		{"by the file's name", `{"script": "task.py"}`, "", `"run":"python3 task.py"`, ""},
		{"a program", `{"script": "tool", "interpreter": "none"}`, "", `"run":"./tool"`, ""},
		{"an executable", `{"script": "tool"}`, "", `"run":"./tool"`, ""},
		{"a command", `{"script": "npm", "args": "run start"}`, "", `"run":"npm run start"`, ""},
		{"name", `{"script": "server.js", "name": "My API"}`, "", `"name":"my-api"`, "name carried"},
		{"name of the script", `{"script": "server.js"}`, "", `"name":"server"`, ""},
		{"cwd", `{"script": "server.js", "cwd": "sub"}`, "", `/sub","listen"`, ""},
		{"cwd that is not there", `{"script": "server.js", "cwd": "/nowhere"}`, "", `/top","listen"`, "cwd left out"},
		{"cluster", `{"script": "server.js", "exec_mode": "cluster", "instances": 3}`, "", `"name":"web","run":"node server.js","instances":3`, ""},
		{"fork", `{"script": "server.js", "exec_mode": "fork"}`, "", `"name":"web","run":"node server.js","instances":1`, "exec_mode carried"},
		{"all processors but one", `{"script": "server.js", "instances": -1}`, "", `"instances":3`, "instances carried"},
		{"instances as text", `{"script": "server.js", "instances": "2"}`, "", `"instances":2`, ""},
		{"instances that are none", `{"script": "server.js", "instances": "many"}`, "", `"instances":1`, "instances left out"},
		{"port", `{"script": "server.js", "port": 3000}`, "", `"listen":[":3000"]`, ""},
		{"PORT", `{"script": "server.js", "env": {"PORT": "3001"}}`, "", `"listen":[":3001"]`, ""},
		{"no port", `{"script": "server.js", "env": {"PORT": "/tmp/sock"}}`, "", `"listen":[":8080"]`, "port left out"},
		{"env", `{"script": "server.js", "env": {"A": 1, "B": true, "C": "x: #y\n\"é\u0007", "D": null, "yes": "no"}}`, "",
			`"env":{"A":"1","B":"true","C":"x: #y\n\"é\u0007","yes":"no"}`, ""},
		{"env that is no text", `{"script": "server.js", "env": {"A": {"b": [1]}}}`, "", `"A":"{\"b\":[1]}"`, "env.A carried"},
		{"env of gapless", `{"script": "server.js", "env": {"GAPLESS_APP": "x", "A": "b"}}`, "", `"env":{"A":"b"}`, "env.GAPLESS_APP left out"},
		{"a secret", `{"script": "server.js", "env": {"API_TOKEN": "hunter2", "A": "b"}}`, "", `"env":{"A":"b"}`, "env.API_TOKEN left out"},
		{"env_*", `{"script": "server.js", "env": {"A": "1", "B": "1"}, "env_production": {"B": "2"}}`, "production", `"env":{"A":"1","B":"2"}`, ""},
		{"env_* not chosen", `{"script": "server.js", "env": {"A": "1"}, "env_production": {"A": "2"}}`, "", `"env":{"A":"1"}`, "env_production left out"},
		{"memory", `{"script": "server.js", "max_memory_restart": "300M"}`, "", `"memory":314572800`, ""},
		{"memory in bytes", `{"script": "server.js", "max_memory_restart": 104857600}`, "", `"memory":104857600`, ""},
		{"memory that is none", `{"script": "server.js", "max_memory_restart": "lots"}`, "", `"instances":1`, "max_memory_restart left out"},
		{"kill_timeout", `{"script": "server.js", "kill_timeout": 1600}`, "", `"grace":"1.6s"`, ""},
		{"kill_timeout of a day", `{"script": "server.js", "kill_timeout": 86400000}`, "", `"grace":"10m0s"`, "kill_timeout carried"},
		{"listen_timeout", `{"script": "server.js", "listen_timeout": 90000}`, "", `"start_timeout":"1m30s"`, "listen_timeout carried"},
		{"uid", `{"script": "server.js", "uid": "www-data"}`, "", `"user":"www-data"`, ""},
		{"user", `{"script": "server.js", "user": "www-data"}`, "", `"user":"www-data"`, ""},
		{"username", `{"script": "server.js", "username": "www-data"}`, "", `"user":"www-data"`, ""},
		{"uid as a number", `{"script": "server.js", "uid": 33}`, "", `"name":"web"`, "uid left out"},
		{"cron", `{"script": "worker.js", "autorestart": false, "cron_restart": "0 3 * * *"}`, "", `"name":"worker","run":"node worker.js","instances":1,"cron":"0 3 * * *"`, ""},
		{"cron of what runs all the time", `{"script": "server.js", "cron_restart": "0 3 * * *"}`, "", `"name":"web"`, "cron_restart left out"},
		{"cron switched off", `{"script": "server.js", "cron_restart": 0}`, "", `"name":"web"`, ""},
		{"cron of six fields", `{"script": "worker.js", "autorestart": false, "cron_restart": "* 0 3 * * *"}`, "", `"name":"web"`, "cron_restart left out"},
		{"an alias", `{"script": "server.js", "interpreter_args": "--x", "exec_interpreter": "bun"}`, "", `"run":"bun --x server.js"`, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			res, apps := convert(t, `{"apps": [`+c.app+`]}`, c.env)
			var b strings.Builder
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(apps); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(b.String(), c.want) {
				t.Errorf("%s\n  is not in\n%s\nof\n%s", c.want, b.String(), res.Files[0].Text)
			}
			field, fate, _ := strings.Cut(c.note, " ")
			if c.note != "" && len(notes(res, field, pm2.Fate(fate))) == 0 {
				t.Errorf("no note %s in %v", c.note, res.Notes)
			}
			if strings.Contains(b.String()+res.Files[0].Text, "hunter2") {
				t.Error("a secret was written down")
			}
		})
	}
}

// Apps of one directory are one file, but for a second one that serves HTTP.
func TestDivide(t *testing.T) {
	_, apps := convert(t, `{"apps": [
		{"name": "mail", "script": "worker.js", "instances": 2, "exec_mode": "fork", "env": {"PORT": 1, "A": "b"}},
		{"name": "jobs", "script": "worker.js", "exec_mode": "fork", "max_memory_restart": "1G"},
		{"name": "jobs", "script": "worker.js"},
		{"name": "shop", "script": "server.js", "instances": "max"},
		{"name": "web", "script": "worker.js"},
		{"name": "other", "script": "server.js", "cwd": "$DIR/sub", "port": 9000}
	]}`, "")
	var got []string
	for _, a := range apps {
		for _, p := range a.Processes {
			got = append(got, a.Name+"/"+p.Name)
		}
	}
	// mail has a PORT, so it is taken for one that serves HTTP.
	want := []string{"mail/web", "mail/jobs", "mail/jobs-2", "mail/web-process", "shop/web", "other/web"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	_, apps = convert(t, `[{"name": "a", "script": "worker.js"}, {"name": "b", "script": "worker.js"}]`, "")
	if len(apps) != 1 || apps[0].Process(gapless.WebProcess) != nil || len(apps[0].Processes) != 2 {
		t.Errorf("two that say nothing of HTTP: %+v", apps)
	}
	_, apps = convert(t, `[{"name": "x", "script": "worker.js"}, {"name": "my-api", "script": "server.js"}]`, "")
	if len(apps) != 1 || apps[0].Name != "my-api" || apps[0].Process(gapless.WebProcess) == nil {
		t.Errorf("one that is called api: %+v", apps)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{``, `null`, `{}`, `[]`, `5`, `{"apps": []}`, `{"apps": [5]}`, `{"apps": [{}]}`, `{"apps": [{"script": 1.5e}]}`} {
		if _, err := pm2.Parse([]byte(text)); gapless.CodeOf(err) != gapless.Invalid {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Whatever the file says, what is written loads, or there is an error.
func FuzzConvert(f *testing.F) {
	f.Add("shop", "server.js", "A", "x", "--a 'b' $c")
	f.Add("\x00", "npm", "KEY", "\u2028\x85\ufeff", "`x` \\ \"")
	f.Add("web", "a b.js", "NO", "- x: y # z", "\n\t")
	f.Fuzz(func(t *testing.T, name, script, variable, value, args string) {
		data, err := json.Marshal(map[string]any{"apps": []any{
			map[string]any{"name": name, "script": script, "args": args, "env": map[string]any{variable: value}},
			map[string]any{"name": name, "script": "worker.js", "args": []string{args}, "env": map[string]any{variable: value}},
		}})
		if err != nil {
			t.Skip()
		}
		eco, err := pm2.Parse(data)
		if err != nil {
			return
		}
		dir := t.TempDir()
		res, err := pm2.Convert(eco, pm2.Options{Dir: dir, CPUs: 2})
		if err != nil {
			return
		}
		for _, file := range res.Files {
			if err := os.WriteFile(filepath.Join(dir, file.Name), []byte(file.Text), 0o644); err != nil {
				t.Fatal(err)
			}
			app, err := config.Load(config.Input{Dir: dir, File: file.Name})
			if err != nil {
				t.Fatalf("%v\n%s", err, file.Text)
			}
			for name, got := range app.Env {
				if got != strings.ToValidUTF8(value, "\ufffd") {
					t.Errorf("%s is %q, was %q\n%s", name, got, value, file.Text)
				}
			}
		}
	})
}
