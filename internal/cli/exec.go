package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

// passedOn is the exit code of a command that gapless ran for a person.
type passedOn struct{ code int }

func (e *passedOn) Error() string { return fmt.Sprintf("exit code %d", e.code) }

func (c *command) exec() *cobra.Command {
	var req api.ExecRequest
	cmd := &cobra.Command{
		Use:   "exec [app] [--instance v3/1 | --release v3] -- command …",
		Short: "Run a command here, in the directory and environment of a release",
		Long: `Run a command in the tree of a release, with the environment and as the user of
its instances, and with its runtime first in PATH. Without --release or
--instance it is the release that serves. The command belongs to this terminal:
input, output, Ctrl-C and the exit code are its own. A tree is part of a
release that may serve: do not change files in it.

Only root and the user that gapless runs as may do this, on the machine itself:
the environment is secret.`,
		Example: `  gapless exec -- node -p process.version
  gapless exec shop --instance v3/1 -- sh
  gapless exec shop --release v2 --process worker -- env`,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, argv, err := afterDashes(cmd, args)
			if err != nil {
				return err
			}
			client, name, err := c.meant(cmd.Context(), args)
			if err != nil {
				return err
			}
			req.Program = filepath.Base(argv[0])
			e, err := client.Exec(cmd.Context(), name, req)
			if err != nil {
				return err
			}
			return become(e, argv)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Release, "release", "", "a release, such as v3 (default: the one that serves)")
	f.StringVarP(&req.Instance, "instance", "i", "", "an instance, such as v3/1; PORT is the one of it")
	f.StringVar(&req.Process, "process", "", "the environment of this process (default: web)")
	return cmd
}

// afterDashes splits arguments into an app, if one is named, and a command.
func afterDashes(cmd *cobra.Command, args []string) (app, argv []string, err error) {
	dash := cmd.ArgsLenAtDash()
	if dash < 0 || dash == len(args) {
		return nil, nil, gapless.Errorf(gapless.Invalid, "no command follows --").WithHint("gapless %s -- node task.js", cmd.Name())
	}
	if dash > 1 {
		return nil, nil, gapless.Errorf(gapless.Invalid, "%d apps were named", dash).WithHint("the command goes after --")
	}
	return args[:dash], args[dash:], nil
}

// become replaces this process by a command: signals, terminal and exit code
// need nobody in between.
func become(e api.Exec, argv []string) error {
	if err := os.Chdir(e.Dir); err != nil {
		return gapless.Errorf(gapless.Unavailable, "enter the tree of %s: %w", e.Release, err)
	}
	if e.User != "" && os.Geteuid() == 0 {
		groups := make([]int, len(e.Groups))
		for i, g := range e.Groups {
			groups[i] = int(g)
		}
		err := syscall.Setgroups(groups)
		if err == nil {
			err = syscall.Setgid(int(e.GID))
		}
		if err == nil {
			err = syscall.Setuid(int(e.UID))
		}
		if err != nil {
			return gapless.Errorf(gapless.NotAllowed, "become user %s: %w", e.User, err)
		}
	}
	env := e.Env
	for _, name := range []string{"TERM", "COLORTERM", "NO_COLOR", "COLUMNS", "LINES"} { // of this terminal, not of the release
		if v, ok := os.LookupEnv(name); ok && !sets(env, name) {
			env = append(env, name+"="+v)
		}
	}
	path, err := lookup(argv[0], env)
	if err != nil {
		return err
	}
	err = syscall.Exec(path, argv, env)
	return gapless.Errorf(gapless.Invalid, "run %s: %w", path, err)
}

func sets(env []string, name string) bool {
	for _, v := range env {
		if strings.HasPrefix(v, name+"=") {
			return true
		}
	}
	return false
}

// lookup finds a program by the PATH of env.
func lookup(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, v := range env {
		dirs, ok := strings.CutPrefix(v, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(dirs) {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			} else if !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission) {
				return "", err
			}
		}
	}
	return "", gapless.Errorf(gapless.NotFound, "there is no %s in the PATH of the release", name).WithHint("see it with: gapless exec -- sh -c 'echo $PATH'")
}
