package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"gapless"
	"gapless/internal/api"
)

func (c *command) runOnce() *cobra.Command {
	var req api.OnceRequest
	var timeout time.Duration
	var stop bool
	cmd := &cobra.Command{
		Use:   "run-once [app] [--release v3] -- command …",
		Short: "Run a command of a release once, like an instance, and show what it prints",
		Long: `Run a command of a release once: a task, a migration, a report. It runs like an
instance, in the tree and environment of the release and as its user, and its
output is in the app's log (as v3/once.1) and shown here.

It does not need this terminal: Ctrl-C only detaches (exit code 130), unless
--stop-on-interrupt is given. A restart of the daemon does not touch it. It is
ended when --timeout is over and when the app goes down: SIGTERM, and after the
app's grace SIGKILL for it and all that it started.

The exit code is the command's own; 128 plus the number of the signal that
killed it; 5 when its time was over.`,
		Example: `  gapless run-once -- node tasks/report.js
  gapless run-once shop --release v3 --timeout 10m -- npx prisma migrate deploy`,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, argv, err := afterDashes(cmd, args)
			if err != nil {
				return err
			}
			if timeout < time.Second {
				return gapless.Errorf(gapless.Invalid, "--timeout %s is less than a second", timeout)
			}
			req.Command, req.Timeout = argv, gapless.Duration(timeout)
			client, name, err := c.meant(cmd.Context(), args)
			if err != nil {
				return err
			}
			once, err := client.RunOnce(cmd.Context(), name, req)
			if err != nil {
				return err
			}
			return c.attend(cmd.Context(), client, once, stop)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Release, "release", "", "a release, such as v3 (default: the one that serves)")
	f.StringVar(&req.Process, "process", "", "the environment of this process (default: web)")
	f.DurationVar(&timeout, "timeout", time.Hour, "end it when it takes longer; at most 24h")
	f.BoolVar(&stop, "stop-on-interrupt", false, "Ctrl-C ends the command instead of detaching")
	return cmd
}

// attend shows what a command prints until it has ended. It asks again when
// the daemon was replaced in between: the command itself does not mind that.
func (c *command) attend(ctx context.Context, client *api.Client, once api.Once, stop bool) error {
	const tries = 5
	told := 0
	for n := 1; ; n++ {
		exit, err := c.listen(ctx, client, once, &told)
		switch {
		case ctx.Err() != nil:
			return c.leave(ctx, client, once, stop)
		case exit != nil:
			return c.ended(once, *exit)
		case err == nil:
			return gapless.Errorf(gapless.Unavailable, "how %s ended is not known", once.Label).WithHint("see: gapless logs %s --instance %s", once.App, once.Label)
		case gapless.CodeOf(err) != gapless.Unavailable || n == tries:
			return err
		}
	}
}

// listen shows what was not told yet, and returns how the command ended.
func (c *command) listen(ctx context.Context, client *api.Client, once api.Once, told *int) (*api.OnceOutput, error) {
	lines := 0
	for out, err := range client.OnceOutput(ctx, once.App, once.ID) {
		if err != nil {
			return nil, err
		}
		if out.Exit != nil {
			return &out, nil
		}
		if lines++; out.Line == nil || lines <= *told {
			continue
		}
		*told = lines
		if err := c.onceLine(*out.Line); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (c *command) onceLine(l api.LogLine) error {
	if c.json {
		return c.term.jsonLine(l)
	}
	w := os.Stdout
	if l.Stream == "err" {
		w = os.Stderr
	}
	_, err := fmt.Fprintln(w, l.Text)
	return err
}

// leave is what Ctrl-C does.
func (c *command) leave(ctx context.Context, client *api.Client, once api.Once, stop bool) error {
	if !stop {
		c.term.hintf("%s goes on: gapless logs -f %s --instance %s", once.Label, once.App, once.Label)
		return &exitCode{gapless.Detached}
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := client.StopOnce(end, once.App, once.ID); err != nil {
		return err
	}
	c.term.sayf("%s was ended", once.Label)
	return &exitCode{gapless.Detached}
}

// ended passes on how a command ended.
func (c *command) ended(once api.Once, out api.OnceOutput) error {
	e := out.Exit
	if c.json {
		if err := c.term.jsonLine(out); err != nil {
			return err
		}
	}
	switch {
	case out.Over:
		return gapless.Errorf(gapless.TimedOut, "%s took longer than its --timeout and was ended", once.Label)
	case e.Code == 0:
		return nil
	case e.Code > 0:
		return &passedOn{e.Code}
	}
	c.term.errorf("%s %s", once.Label, e)
	if n := int(unix.SignalNum(e.Signal)); n > 0 {
		return &passedOn{128 + n}
	}
	return &passedOn{1}
}
