package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/config"
	"gapless/internal/daemon"
)

// appFlags are the flags that say what an app is.
type appFlags struct {
	file      string
	name      string
	listen    []string
	instances int
	env       []string
	envFiles  []string
	forget    bool
	moved     bool
}

func (f *appFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVarP(&f.file, "config", "c", "", "configuration file (default gapless.yaml, if there is one)")
	fl.StringVar(&f.name, "name", "", "name of the app (default: from package.json or the directory)")
	fl.StringSliceVarP(&f.listen, "listen", "l", nil, "address that the edge listens on (default :8080)")
	fl.IntVarP(&f.instances, "instances", "n", 0, "instances of the web process (default: one per CPU, at most 4)")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "set a variable for the app: NAME=value, or NAME to pass it on")
	fl.StringArrayVar(&f.envFiles, "env-file", nil, "read variables from a file")
	fl.BoolVar(&f.moved, "moved", false, "the app was started from another directory, and that is meant")
	fl.BoolVar(&f.forget, "forget", false, "do not start from the flags of the last time")
}

// load reads the app and its environment. exact says that args follow a "--".
// earlier are the flags of the last time, nil if there are none.
func (f *appFlags) load(args []string, exact bool, earlier *gapless.Flags) (*gapless.App, map[string]string, error) {
	dir, err := standing()
	if err != nil {
		return nil, nil, err
	}
	env := map[string]string{}
	for _, e := range f.env {
		name, value, given := strings.Cut(e, "=")
		if !given {
			if value, given = os.LookupEnv(name); !given {
				return nil, nil, gapless.Errorf(gapless.Invalid, "--env %s: that variable is not set here", name).
					WithHint("write --env %s=value", name)
			}
		}
		env[name] = value
	}
	app, err := config.Load(config.Input{Dir: dir, File: f.file, Args: args, Exact: exact, Name: f.name,
		Listen: f.listen, Instances: f.instances, Env: env, EnvFiles: f.envFiles, Earlier: earlier})
	if err != nil {
		return nil, nil, err
	}
	values, err := config.Environment(app)
	return app, values, err
}

func (c *command) up() *cobra.Command {
	var f appFlags
	var w watchFlags
	cmd := &cobra.Command{
		Use:   "up [script | -- command …]",
		Short: "Start this app; package.json is enough",
		Long: `Start the app in this directory. No configuration is needed: the start script
of package.json says what runs. The edge takes traffic on :8080 and passes it
to the app's instances, which get their port in PORT.`,
		Example: `  gapless up                       # package.json, gapless.yaml, or server.js
  gapless up server.js
  gapless up -- ./anything --port '$PORT'
  gapless up --listen :80 --instances 4`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.ship(cmd, "up", &f, w, shipping{}, args)
		},
	}
	f.add(cmd)
	w.add(cmd)
	return cmd
}

func (c *command) deploy() *cobra.Command {
	var f appFlags
	var w watchFlags
	var replace, despite bool
	var until time.Duration
	cmd := &cobra.Command{
		Use:   "deploy [script | -- command …]",
		Short: "Ship what is in this directory as a new release, without a gap",
		Long: `Make a release of what is in this directory and roll it out by the plan of its
strategy (see it first: gapless plan). The default, rolling: start it, wait
until it is ready, watch it at a quarter of the traffic or less, then move
traffic over batch by batch. Old instances are stopped only when nothing is in
flight in them. A release that does not come up, crashes, or answers worse than
the old one while it is watched, is taken back; the old one serves on.

Exit codes: 0 promoted · 1 failed before an instance had started · 2 usage or
configuration · 3 taken back, the old release serves · 5 --timeout reached, the
rollout goes on · 8 it waits for a person: gapless resume, promote or abort ·
130 detached (Ctrl-C; the rollout goes on).`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.ship(cmd, "deploy", &f, w, shipping{replace: replace, despite: despite, until: until}, args)
		},
	}
	f.add(cmd)
	w.add(cmd)
	cmd.Flags().BoolVar(&replace, "replace", false, "take a rollout that is under way back first")
	cmd.Flags().DurationVar(&until, "until-decided", 0, "let judged steps wait for a decision for up to so long, and ask a person then (exit code 8)")
	cmd.Flags().BoolVar(&despite, "despite-alerts", false, "deploy although alerts of the app fire (see: gapless alerts)")
	return cmd
}

// shipping is what is asked for beside the app itself.
type shipping struct {
	replace, despite bool
	until            time.Duration
}

// ship sends the app to the daemon and watches its rollout.
func (c *command) ship(cmd *cobra.Command, kind string, f *appFlags, w watchFlags, ask shipping, args []string) error {
	ctx := cmd.Context()
	if err := w.check(); err != nil {
		return err
	}
	earlier, err := c.earlier(ctx, kind, f, args, cmd.ArgsLenAtDash() >= 0)
	if err != nil {
		return err
	}
	app, env, err := f.load(args, cmd.ArgsLenAtDash() >= 0, earlier)
	if err != nil {
		return err
	}
	runtime, err := daemon.FindRuntime(app)
	if err != nil {
		return err
	}
	client, err := c.ensure(ctx, kind)
	if err != nil {
		return err
	}
	if err := c.refuseSecrets(ctx, client, app.Name, f); err != nil {
		return err
	}
	if kind == "up" {
		if done, err := c.cameBack(ctx, client, app, w); done {
			return err
		}
	}
	r, err := c.begin(ctx, client, app.Name, kind, func() (gapless.Rollout, error) {
		return client.Deploy(ctx, api.DeployRequest{Moved: f.moved, Replace: ask.replace, DespiteAlerts: ask.despite, UntilDecided: gapless.Duration(ask.until), Kind: kind, App: *app, Env: env, Runtime: runtime})
	})
	if err != nil {
		return err
	}
	return c.watch(ctx, client, r, w)
}

// earlier are the flags that the app of this directory, or of the one that
// args name, was last started with.
func (c *command) earlier(ctx context.Context, kind string, f *appFlags, args []string, exact bool) (*gapless.Flags, error) {
	home, err := daemon.DefaultHome()
	if err != nil || f.forget || !home.Exists() {
		return nil, err
	}
	dir, err := standing()
	if err != nil {
		return nil, err
	}
	if !exact && len(args) == 1 { // gapless up ./shop
		named := args[0]
		if !filepath.IsAbs(named) {
			named = filepath.Join(dir, named)
		}
		if info, err := os.Stat(named); err == nil && info.IsDir() {
			dir = filepath.Clean(named)
		}
	}
	client, err := c.ensure(ctx, kind)
	if err != nil {
		return nil, err
	}
	st, err := client.Status(ctx)
	if err != nil && !api.NoDaemon(err) {
		return nil, err
	}
	if a := startedFrom(st.Apps, dir, f.name); a != nil {
		return a.Flags, nil
	}
	return nil, nil
}

// ensure starts the installation for up; a deploy needs an app that runs.
func (c *command) ensure(ctx context.Context, kind string) (*api.Client, error) {
	if kind != "up" {
		return c.client()
	}
	home, err := daemon.DefaultHome()
	if err != nil {
		return nil, err
	}
	exe, err := daemon.Executable()
	if err != nil {
		return nil, err
	}
	client, started, err := daemon.Ensure(ctx, home, exe)
	c.started = c.started || started
	return client, err
}
