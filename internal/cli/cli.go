// Package cli is the command line: one command per file. A command reads its
// flags, asks the daemon by its API and shows the answer. stdout carries the
// answer, stderr the story. It decides nothing about releases or traffic.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/config"
	"gapless/internal/daemon"
)

// Version is set at build time with -ldflags "-X gapless/internal/cli.Version=…".
var Version = "dev"

// Main runs the command line and returns the exit code.
func Main() int {
	if runtime.GOOS == "windows" {
		fmt.Fprintln(os.Stderr, "gapless: Windows is not supported\nhint: run it inside WSL 2")
		return gapless.Unsupported.Exit()
	}
	ctx, stop := signal.NotifyContext(context.Background(), interrupts()...)
	defer stop()
	cobra.EnableCommandSorting = false // the help has an order of its own
	c := &command{term: newTerm()}
	root := c.root()
	root.SetOut(c.term.out)
	root.SetErr(c.term.err)
	root.SetArgs(os.Args[1:])
	cmd, err := root.ExecuteContextC(ctx)
	c.path = cmd.CommandPath()
	return c.report(err)
}

// interrupts are the signals that end a command. One that is to outlive its
// terminal, as after nohup, is left alone by the end of it.
func interrupts() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// command is what every command shares.
type command struct {
	term    *term
	json    bool   // --json, also when it is a stream
	stream  bool   // --json=stream
	started bool   // this command started gapless
	path    string // of the command that runs: "gapless deploy"
}

// report prints an error as people need it and returns the exit code: the one
// place where exit codes are made.
func (c *command) report(err error) int {
	if err == nil {
		return 0
	}
	var silent *exitCode
	if errors.As(err, &silent) {
		return silent.code.Exit()
	}
	var passed *passedOn
	if errors.As(err, &passed) {
		return passed.code
	}
	if api.NoDaemon(err) && !remote() {
		err = c.whyNoDaemon(err)
	}
	if gapless.CodeOf(err) == gapless.Internal && usageError(err) {
		err = gapless.Errorf(gapless.Invalid, "%s", err)
	}
	if errors.Is(err, context.Canceled) {
		return gapless.Detached.Exit()
	}
	c.term.errorf("%s", err)
	c.term.annotate("error", err.Error())
	hint := gapless.HintOf(err)
	if hint == "" && gapless.CodeOf(err) == gapless.Invalid {
		hint = "see: " + c.path + " --help"
	}
	if hint != "" {
		c.term.hintf("%s", hint)
	}
	return gapless.CodeOf(err).Exit()
}

// exitCode ends with a code after everything was said.
type exitCode struct{ code gapless.Code }

func (e *exitCode) Error() string { return string(e.code) }

// usageError recognises what cobra says about wrong flags and arguments.
func usageError(err error) bool {
	for _, mark := range []string{"unknown shorthand", "flag needs an argument",
		"invalid argument", "accepts ", "requires ", "required flag", "unknown command"} {
		if strings.HasPrefix(err.Error(), mark) {
			return true
		}
	}
	return false
}

func (c *command) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "gapless",
		Short: "Ship new versions of Node.js and other HTTP services without dropping a request",
		Long: `gapless ships new versions of Node.js and other HTTP services without dropping
a request, and keeps the old version when the new one is broken.

  gapless up          start the app in this directory, traffic on :8080
  gapless deploy      ship what is in this directory now, without a gap
  gapless demo        see it happen in less than a minute`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().Var(&jsonFlag{c}, "json", "print one JSON object on stdout; --json=stream: every event as a line, the rollout as the last")
	root.PersistentFlags().Lookup("json").NoOptDefVal = "object"
	root.PersistentFlags().BoolFunc("no-color", "no colour, as with NO_COLOR in the environment", func(string) error {
		c.term.noColor()
		return nil
	})
	root.AddCommand(c.up(), c.deploy(), c.status(), c.logs(), c.plan(), c.promote(), c.pause(), c.resume(), c.abort(), c.hold(), c.maintenance(), c.rollback(),
		c.restart(), c.scale(), c.releases(), c.history(), c.show(), c.down(), c.backup(), c.restore(), c.install(), c.uninstall(), c.demo(), c.version())
	root.AddCommand(c.upgrade(), c.token(), c.certs(), c.metrics(), c.api(), c.audit(), c.exec(), c.runOnce(), c.config())
	root.AddCommand(c.secrets(), c.init(), c.imports(), c.notify(), c.alerts())
	root.AddCommand(c.judge())
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return refuseRemote(cmd) }
	root.AddCommand(c.processes()...)
	root.AddCommand(c.top(), c.proxy(), c.completion(), c.man(), c.docs())
	c.finish(root)
	return root
}

// jsonFlag is --json or --json=stream.
type jsonFlag struct{ c *command }

func (f *jsonFlag) Type() string { return "mode" }

func (f *jsonFlag) String() string { return "" }

func (f *jsonFlag) Set(v string) error {
	f.c.json, f.c.stream = v != "false", v == "stream"
	if v != "object" && v != "stream" && v != "true" && v != "false" {
		return gapless.Errorf(gapless.Invalid, "--json=%s is neither --json nor --json=stream", v).
			WithHint("write --json for one object, --json=stream for every event as a line")
	}
	return nil
}

func (c *command) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Long: `Print the version of this binary. The one that runs may be another:
gapless status --wide prints that.`,
		RunE: func(*cobra.Command, []string) error {
			if c.json {
				return c.term.json(map[string]string{"version": Version, "go": runtime.Version(), "system": runtime.GOOS + "/" + runtime.GOARCH})
			}
			c.term.answerf("gapless %s (%s, %s/%s)", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}

// whyNoDaemon says more than err where keeper still holds what runs.
func (c *command) whyNoDaemon(err error) error {
	home, herr := daemon.DefaultHome()
	if herr != nil {
		return err
	}
	if why := daemon.Diagnose(context.Background(), home); why != nil {
		return why
	}
	return err
}

// client returns a client of the daemon, which must run already.
func (c *command) client() (*api.Client, error) {
	if remote() {
		return remoteClient()
	}
	home, err := daemon.DefaultHome()
	if err != nil {
		return nil, err
	}
	return daemon.Client(home), nil
}

// here is the app that was started from the directory the person stands in;
// nil if there is none, or more than one.
func (c *command) here(ctx context.Context, client *api.Client) (*api.AppStatus, error) {
	if client.Remote() {
		return nil, nil // its directories are not those of this machine
	}
	st, err := client.Status(ctx)
	if api.NoDaemon(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return startedHere(st.Apps), nil
}

// startedHere is the one app whose directory this is; nil if there is none,
// or more than one.
func startedHere(apps []api.AppStatus) *api.AppStatus {
	dir, err := standing()
	if err != nil {
		return nil
	}
	return startedFrom(apps, dir, "")
}

// startedFrom is the one app, of that name if one is given, that was started
// from dir; nil if there is none, or more than one.
func startedFrom(apps []api.AppStatus, dir, name string) *api.AppStatus {
	var found *api.AppStatus
	for i := range apps {
		if apps[i].Source == dir && (name == "" || apps[i].Name == name) {
			if found != nil {
				return nil
			}
			found = &apps[i]
		}
	}
	return found
}

// meant is the daemon's client and the app that a command is about.
func (c *command) meant(ctx context.Context, args []string) (*api.Client, string, error) {
	client, err := c.client()
	if err != nil {
		return nil, "", err
	}
	name, err := c.appName(ctx, client, args)
	return client, name, err
}

// appName is the app that a command means: its argument, or the app of the
// directory that the person stands in.
func (c *command) appName(ctx context.Context, client *api.Client, args []string) (string, error) {
	if len(args) > 0 {
		return args[0], nil
	}
	a, err := c.here(ctx, client)
	if err != nil {
		return "", err
	}
	if a != nil {
		return a.Name, nil
	}
	dir, err := standing()
	if err != nil {
		return "", err
	}
	app, err := config.Load(config.Input{Dir: dir})
	if err != nil {
		return "", gapless.Errorf(gapless.Invalid, "no app was named, and none was started from this directory").
			WithHint("name it, as in: gapless <command> <app>; gapless status lists them")
	}
	return app.Name, nil
}

// idleMemory keeps gapless's own long-running processes small: their heaps
// are tiny, and a collection costs them less than pages that stay.
func idleMemory() { debug.SetGCPercent(50) }
