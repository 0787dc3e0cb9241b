package real

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gapless/internal/api"
	"gapless/test/rig"
)

// TestAccessLog turns the log on with a deployment, reads it with gapless
// logs, follows it, changes its format, and turns it off.
func TestAccessLog(t *testing.T) {
	r := rig.New(t, "")
	r.App("http")
	set := func(extra string) {
		t.Helper()
		configure(r, "http", 1, extra)
		r.Write("gapless.yaml", strings.Replace(read(t, r, "gapless.yaml"), "soak: 2s", "soak: 100ms", 1))
	}
	set("")
	r.Rollout(0, "up")
	if res := r.Must(2, "logs", "--access"); !strings.Contains(res.Stderr, "access_log: true") {
		t.Errorf("no hint: %s", res.Stderr)
	}
	get := func(path string) {
		t.Helper()
		res, err := http.Get("http://" + r.Address + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	// lines waits for the line of a path, which the edge writes a moment later.
	lines := func(path string) (out []string) {
		t.Helper()
		rig.Eventually(t, 10*time.Second, "the line of "+path, func() bool {
			out = strings.Split(strings.TrimSpace(r.Must(0, "logs", "--access").Stdout), "\n")
			return strings.Contains(out[len(out)-1], path)
		})
		return out
	}
	get("/before")
	set("access_log: true\n")
	r.Rollout(0, "deploy")
	get("/one?secret=1")
	get("/two")
	got := lines("/two")
	var line struct {
		Method, Path, Release string
		Status                int
	}
	if len(got) != 2 || json.Unmarshal([]byte(got[0]), &line) != nil || line.Method != "GET" || line.Path != "/one" || line.Status == 0 || line.Release != "v2" {
		t.Errorf("%+v of %q", line, got)
	}
	file := filepath.Join(r.Home, "apps", "http", "logs", "access.log")
	if text, err := os.ReadFile(file); err != nil || string(text) != strings.Join(got, "\n")+"\n" || strings.Contains(string(text), "secret") {
		t.Errorf("%s: %v\n%s", file, err, text)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	get("/three")
	followed := []string{}
	for l, err := range r.Client().Logs(ctx, "http", api.LogRequest{Lines: 1, Follow: true, Access: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if followed = append(followed, l.Text); l.Time.IsZero() || l.Stream != "access" {
			t.Errorf("%+v", l)
		}
		if len(followed) == 1 {
			get("/four")
		}
		if strings.Contains(l.Text, "/four") {
			break
		}
	}
	if len(followed) < 2 {
		t.Errorf("followed: %q", followed)
	}

	mine := filepath.Join(r.Dir, "mine.log")
	set("access_log: { path: " + mine + ", format: common, query: true }\n")
	r.Rollout(0, "deploy")
	get("/five?a=b")
	if got := lines("/five"); len(got) != 1 || !strings.Contains(got[0], `"GET /five?a=b HTTP/1.1" `) {
		t.Errorf("%q", got)
	}
	set("")
	r.Rollout(0, "deploy")
	get("/six")
	time.Sleep(time.Second) // five times as long as an edge keeps a line for itself
	if text, _ := os.ReadFile(mine); strings.Contains(string(text), "/six") {
		t.Errorf("it is off, and written: %s", text)
	}
	if res := r.Must(2, "logs", "--access", "--stream", "err"); !strings.Contains(res.Stderr, "leave out") {
		t.Errorf("%s", res.Stderr)
	}
}
