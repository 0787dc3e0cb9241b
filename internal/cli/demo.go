package cli

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/daemon"
	"gapless/internal/load"
)

//go:embed demo/*.js
var demoFiles embed.FS

// demoLoad is the constant traffic of the demo: every kind of client that a
// careless deployment hurts.
var demoLoad = load.Mix{
	KeepAlive: 80, KeepAliveClients: 8, Fresh: 40, Path: 80, PathName: "/cart", Slow: 2, SlowTime: 1500 * time.Millisecond,
	Upload: 2, UploadSize: 1 << 20, UploadTime: time.Second, WebSockets: 6,
}

const demoConfig = `app: demo
run: node server.js
instances: 2
drain: 3s
judge: { within: 5s, on_undecided: continue }
steps: [start: max, warm, weight: 5%, judge, weight: 25%, judge, weight: 50%, judge, promote]
`

// demoRelease is what the demo's JSON says of one deployment.
type demoRelease struct {
	Name     string          `json:"name"`
	Outcome  gapless.Outcome `json:"outcome"`
	Bad      int             `json:"bad_responses"` // given by this release
	Seconds  float64         `json:"seconds"`
	Requests int             `json:"requests"`
	Dropped  int             `json:"dropped"`
	Weights  []string        `json:"weights"` // that it served, one after the other
	Reason   string          `json:"reason,omitempty"`
}

type demoResult struct {
	Requests int              `json:"requests"`
	Dropped  int              `json:"dropped"`
	Bad      int              `json:"bad_responses"`
	Retried  uint64           `json:"retried"` // by the edge, on another instance
	Held     uint64           `json:"held"`    // by the edge, while nobody was ready
	HeldMax  gapless.Duration `json:"held_max"`
	Releases []demoRelease    `json:"releases"`
	Load     load.Report      `json:"load"`
}

func (c *command) demo() *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it in less than a minute: a good version goes out, a broken one comes back",
		Long: `Run a small Node app under constant load in an installation of its own, deploy
a good version as a canary, then one that fails three of ten requests of one
path, and count what users would have lost. The judge takes the broken one
back. Exits with 1 if a request was dropped, or if any release but the broken
one gave a bad answer. Needs node. Leaves nothing behind, unless --keep is given.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &demo{c: c, keep: keep}
			return d.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "leave the app running afterwards")
	return cmd
}

// demo drives the shipped command line as a person would.
type demo struct {
	c       *command
	keep    bool
	exe     string
	dir     string // everything of the demo is in here
	address string
	load    *load.Run
	result  demoResult

	mu  sync.Mutex
	bad map[string]int // bad answers by release
}

func (d *demo) run(ctx context.Context) (err error) {
	if _, err := exec.LookPath("node"); err != nil {
		return gapless.Errorf(gapless.Invalid, "the demo's app needs node, and there is none in PATH").
			WithHint("install Node.js 18 or later")
	}
	if d.exe, err = daemon.Executable(); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "gapless-demo-"); err != nil {
		return err
	}
	defer func() { err = d.end(err) }()
	if d.address, err = freeAddress(); err != nil {
		return err
	}
	if err := d.write("v1"); err != nil {
		return err
	}
	d.say("starting v1: 2 instances, traffic on %s", d.address)
	// Not cut short by Ctrl-C: an installation that is half started could not be stopped.
	if _, _, err := d.gapless(context.WithoutCancel(ctx), "up", "--listen", d.address); err != nil {
		return err
	}
	d.bad = map[string]int{}
	if d.load, err = load.Start(ctx, load.Config{URL: "http://" + d.address, Mix: demoLoad, OnBad: d.onBad}); err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	d.say("v1 serves %s", d.phase(load.Report{}))

	for _, v := range []struct {
		name, story string
		want        gapless.Outcome
	}{
		{"v2", "a good version, as a canary", gapless.Promoted},
		{"v3", "a broken version: three of ten carts answer 500", gapless.TakenBack},
	} {
		if err := d.deploy(ctx, v.name, v.story, v.want); err != nil {
			return err
		}
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	return d.finish(ctx)
}

// deploy ships one version under load and tells what it did to the traffic.
func (d *demo) deploy(ctx context.Context, name, story string, want gapless.Outcome) error {
	if err := d.write(name); err != nil {
		return err
	}
	before := d.load.Report()
	d.say("deploying %s, %s", name, story)
	r, weights, err := d.gapless(ctx, "deploy", "--listen", d.address)
	if err != nil {
		return err
	}
	if r.Outcome != want {
		return gapless.Errorf(gapless.Internal, "%s should have been %s, it was %s: %s", name, want, r.Outcome, r.Reason)
	}
	after := d.load.Report().Since(before)
	d.result.Releases = append(d.result.Releases, demoRelease{
		Name: name, Outcome: r.Outcome, Seconds: r.Finished.Sub(r.Started).Seconds(),
		Requests: after.Requests, Dropped: after.Dropped, Weights: weights, Reason: r.Reason})
	switch r.Outcome {
	case gapless.Promoted:
		d.say("%s serves 100 %% after %.1f s %s", name, r.Finished.Sub(r.Started).Seconds(), d.phase(before))
	default:
		d.say("%s was taken back after %.1f s, %s serves %s", name, r.Finished.Sub(r.Started).Seconds(), r.From, d.phase(before))
		d.say("  %s", r.Reason)
	}
	return nil
}

// onBad counts bad answers by the release that gave them, "" if that is not known.
func (d *demo) onBad(s load.Sample) {
	if load.Dropped(s.Err) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bad[s.Release]++
}

// phase is the counts since an earlier report, for people.
func (d *demo) phase(before load.Report) string {
	r := d.load.Report().Since(before)
	return faint.Render(fmt.Sprintf("· %d requests, %d dropped, %d bad answers", r.Requests, r.Dropped, r.Bad))
}

// finish prints the result. A dropped request is a failure, and so is a bad
// answer of any release but the broken one.
func (d *demo) finish(ctx context.Context) error {
	r := d.load.Stop()
	if err := d.hidden(ctx); err != nil {
		return err
	}
	d.result.Requests, d.result.Dropped, d.result.Bad, d.result.Load = r.Requests, r.Dropped, r.Bad, r
	others := r.Bad
	for i := range d.result.Releases {
		v := &d.result.Releases[i]
		v.Bad = d.bad[v.Name]
		if v.Outcome == gapless.TakenBack {
			others -= v.Bad
		}
	}
	if d.c.json {
		if err := d.c.answer(d.result); err != nil {
			return err
		}
	} else {
		d.table(r)
	}
	if d.keep {
		d.c.term.hintf("the demo's app answers on http://%s; play on with: cd %s && export GAPLESS_HOME=%s", d.address, d.app(), d.home())
		d.c.term.hintf("end it with: %s", d.removal())
	}
	if r.Dropped > 0 || others > 0 {
		return gapless.Errorf(gapless.Internal, "%d requests were dropped and %d answered badly by a good release: %v", r.Dropped, others, r.Errors)
	}
	return nil
}

// hidden asks for what a client does not see: requests that the edge repeated
// or let wait. They are no loss, but they could hide one.
func (d *demo) hidden(ctx context.Context) error {
	out, err := d.command(ctx, "status", "--json").Output()
	if err != nil {
		return gapless.Errorf(gapless.Internal, "gapless status: %w", err)
	}
	var st api.Status
	if err := json.Unmarshal(out, &st); err != nil {
		return gapless.Errorf(gapless.Internal, "gapless status answered %q: %w", out, err)
	}
	for _, a := range st.Apps {
		for _, of := range a.Releases {
			d.result.Retried += of.Retried
			d.result.Held += of.Held
			d.result.HeldMax = max(d.result.HeldMax, of.HeldMax)
		}
	}
	return nil
}

func (d *demo) table(r load.Report) {
	rows := [][]string{{"RELEASE", "OUTCOME", "SECONDS", "REQUESTS", "DROPPED", "BAD ANSWERS", "WEIGHTS SERVED"}}
	for _, v := range d.result.Releases {
		rows = append(rows, []string{v.Name, outcomeWord(gapless.Rollout{Outcome: v.Outcome}), fmt.Sprintf("%.1f", v.Seconds),
			fmt.Sprint(v.Requests), fmt.Sprint(v.Dropped), fmt.Sprint(v.Bad), strings.Join(v.Weights, ", ")})
	}
	d.c.term.table(rows)
	d.c.term.answerf("%d requests, %d dropped, %d bad answers", r.Requests, r.Dropped, r.Bad)
	d.c.term.answerf("  keep-alive %d · connection per request %d · /cart %d · slow (1.5 s) %d · uploads (1 MiB) %d · WebSockets %d, closed with 1001: %d",
		r.Kinds[load.KeepAlive].Requests, r.Kinds[load.Fresh].Requests, r.Kinds[load.Path].Requests, r.Kinds[load.Slow].Requests,
		r.Kinds[load.Upload].Requests, r.Kinds[load.WebSocket].Requests, r.WSClosed[1001])
	d.c.term.answerf("  repeated on another instance %d · held while none was ready %d, the longest %s", d.result.Retried, d.result.Held, d.result.HeldMax)
}

func (d *demo) app() string  { return filepath.Join(d.dir, "app") }
func (d *demo) home() string { return filepath.Join(d.dir, "home") }

func (d *demo) say(format string, args ...any) {
	d.c.term.sayf("%s", fmt.Sprintf(format, args...))
}

// write puts a version of the app into its directory.
func (d *demo) write(version string) error {
	server, err := demoFiles.ReadFile("demo/server.js")
	if err != nil {
		return err
	}
	if version == "v3" {
		broken, err := demoFiles.ReadFile("demo/broken.js")
		if err != nil {
			return err
		}
		server = append(server, broken...)
	}
	if err := os.MkdirAll(d.app(), 0o755); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"server.js": server, "gapless.yaml": []byte(demoConfig),
		"package.json": fmt.Appendf(nil, "{\"name\": \"demo\", \"version\": %q, \"scripts\": {\"start\": \"node server.js\"}}\n", version),
	} {
		if err := os.WriteFile(filepath.Join(d.app(), name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// gapless runs the shipped binary, tells the weights while they change, and
// returns the rollout that it reports with the candidate's weights as served.
// Exit code 3, taken back, is an answer and no error.
func (d *demo) gapless(ctx context.Context, args ...string) (r gapless.Rollout, weights []string, err error) {
	var story bytes.Buffer
	cmd := d.command(ctx, append(args, "--json=stream")...)
	cmd.Stderr = &story
	out, err := cmd.StdoutPipe()
	if err != nil {
		return r, nil, err
	}
	if err := cmd.Start(); err != nil {
		return r, nil, err
	}
	var last []byte
	for lines := bufio.NewScanner(out); lines.Scan(); {
		last = bytes.Clone(lines.Bytes())
		var e gapless.Event
		if json.Unmarshal(last, &e) == nil && e.Kind == "weight" && args[0] == "deploy" {
			_, share, _ := strings.Cut(e.Message, " serves ")
			weights = append(weights, share)
			d.say("  %s", e.Message)
		}
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return r, nil, ctx.Err()
	}
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == gapless.RolledBack.Exit()) {
		return r, nil, gapless.Errorf(gapless.Internal, "gapless %s: %w\n%s", strings.Join(args, " "), err, story.String())
	}
	if err := json.Unmarshal(last, &r); err != nil || r.ID == "" {
		return r, nil, gapless.Errorf(gapless.Internal, "gapless %s answered %q: %w", strings.Join(args, " "), last, err)
	}
	return r, weights, nil
}

func (d *demo) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.exe, args...)
	cmd.Dir = d.app()
	cmd.Env = append(os.Environ(), "GAPLESS_HOME="+d.home())
	cmd.Stderr = io.Discard
	// Ctrl-C reaches the demo alone, which then cleans up in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// end cleans up. What could not be cleaned up is told with how to do that by
// hand, also after Ctrl-C, of which nothing else would be said.
func (d *demo) end(failed error) error {
	if d.keep && failed == nil {
		return nil
	}
	left := d.cleanUp()
	if left == nil {
		return failed
	}
	code, text := gapless.Internal, left.Error()
	if failed != nil && !errors.Is(failed, context.Canceled) {
		code, text = gapless.CodeOf(failed), failed.Error()+"\n"+text
	}
	return gapless.Errorf(code, "%s", text).WithHint("%s", "what is left of the demo can be removed with: "+d.removal())
}

// removal is what a person types to get rid of the demo.
func (d *demo) removal() string {
	return fmt.Sprintf("GAPLESS_HOME=%s %s down --all && rm -r %s", d.home(), d.exe, d.dir)
}

// cleanUp ends what the demo started.
func (d *demo) cleanUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := os.Stat(d.home()); err == nil {
		var story bytes.Buffer
		down := d.command(ctx, "down", "--all")
		down.Stderr = &story
		if err := down.Run(); err != nil {
			return fmt.Errorf("end the demo, whose app may run on: %w %s", err, bytes.TrimSpace(story.Bytes()))
		}
	}
	if err := os.RemoveAll(d.dir); err != nil {
		return fmt.Errorf("remove the demo's files: %w", err)
	}
	return nil
}

// freeAddress is a loopback address below the range of outgoing connections.
func freeAddress() (string, error) {
	for port := 18080; port < 19080; port++ {
		address := fmt.Sprintf("127.0.0.1:%d", port)
		ln, err := net.Listen("tcp", address)
		if err != nil {
			continue
		}
		return address, ln.Close()
	}
	return "", gapless.Errorf(gapless.Unavailable, "no free port between 18080 and 19079").
		WithHint("end what listens there; ss -ltnp shows it")
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
