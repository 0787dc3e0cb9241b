package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"gapless"
	"gapless/internal/api"
)

func (c *command) secrets() *cobra.Command {
	var app string
	cmd := &cobra.Command{
		Use:   "secrets",
		Short: "Keep values for an app that no file and no command line should show",
		Long: `Keep values that an app's releases get as variables: encrypted in GAPLESS_HOME,
never shown again. What is set or removed takes effect with the next deploy. A
secret wins over a variable of the same name in env and env_file.`,
		Args: cobra.NoArgs,
	}
	cmd.PersistentFlags().StringVarP(&app, "app", "a", "", "the app (default: the one of this directory)")
	cmd.AddCommand(c.setSecret(&app), c.listSecrets(&app), c.removeSecret(&app))
	return cmd
}

// named is the app that --app names, or that of this directory.
func (c *command) named(ctx context.Context, client *api.Client, app string) (string, error) {
	if app != "" {
		return app, nil
	}
	name, err := c.appName(ctx, client, nil)
	if err != nil {
		return "", gapless.Errorf(gapless.Invalid, "no app was named, and none was started from this directory").
			WithHint("name it: --app <app>")
	}
	return name, nil
}

func (c *command) setSecret(app *string) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Set a secret: its value is asked for, or read from stdin",
		Long: `Set a secret. On a terminal its value is asked for and not shown; otherwise it
is stdin, without the newline at its end; or, with --from-file, the content of
a file as it is. It is at most 64 KiB of text.`,
		Example: `  gapless secrets set DATABASE_URL
  pass show shop/token | gapless secrets set API_TOKEN
  gapless secrets set TLS_KEY --from-file key.pem`,
		Args: func(_ *cobra.Command, args []string) error { return checkSecretArgs(args) },
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, name := cmd.Context(), args[0]
			value, err := c.secretValue(ctx, name, file)
			if err != nil {
				return err
			}
			if err := gapless.CheckSecret(name, value); err != nil { // here, too: JSON would repair what is no text
				return err
			}
			client, err := c.ensure(ctx, "up") // a secret may be there before its app is
			if err != nil {
				return err
			}
			app, err := c.named(ctx, client, *app)
			if err != nil {
				return err
			}
			if err := client.SetSecret(ctx, app, name, value); err != nil {
				return err
			}
			if c.json {
				return c.term.json(map[string]string{"app": app, "name": name})
			}
			c.term.answerf("%s %s is a secret of %s", good.Render("✓"), name, app)
			if st, err := client.Status(ctx); err == nil && len(only(st.Apps, app)) == 0 {
				c.term.hintf("no app %s was started yet; it takes effect with its first release: gapless up", app)
			} else {
				c.term.hintf("it takes effect with the next release: gapless deploy")
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "from-file", "", "take the content of this file as it is")
	return cmd
}

// checkSecretArgs refuses values, and does not repeat them.
func checkSecretArgs(args []string) error {
	switch {
	case len(args) == 0:
		return gapless.Errorf(gapless.Invalid, "no name was given").WithHint("gapless secrets set NAME")
	case len(args) > 1 || strings.Contains(args[0], "="):
		name, _, _ := strings.Cut(args[0], "=")
		if gapless.CheckVariable(name) != nil {
			name = "NAME"
		}
		return gapless.Errorf(gapless.Invalid, "a value on the command line is refused: process arguments can be seen by everybody on this machine, and shells keep them").
			WithHint("gapless secrets set %s asks for the value, or reads it from stdin; if this one was real, change it where it comes from", name)
	}
	if err := gapless.CheckVariable(args[0]); err != nil {
		return err
	}
	return nil
}

// secretValue reads the value of a secret from a file, a terminal or stdin.
func (c *command) secretValue(ctx context.Context, name, file string) (string, error) {
	var from io.Reader = os.Stdin
	switch {
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return "", gapless.Errorf(gapless.Invalid, "read the value of %s: %w", name, err)
		}
		defer func() { _ = f.Close() }()
		from = f
	case xterm.IsTerminal(int(os.Stdin.Fd())):
		return c.askSecret(ctx, name)
	}
	data, err := io.ReadAll(io.LimitReader(from, gapless.MaxSecret+3)) // with a newline of two bytes
	if err != nil {
		return "", gapless.Errorf(gapless.Invalid, "read the value of %s: %w", name, err)
	}
	value := string(data)
	if file == "" {
		value = strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r")
	}
	return value, nil
}

// askSecret asks on the terminal, which shows nothing of the answer.
func (c *command) askSecret(ctx context.Context, name string) (string, error) {
	fd := int(os.Stdin.Fd())
	before, err := xterm.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("ask for the value of %s: %w", name, err)
	}
	defer func() { _ = xterm.Restore(fd, before) }() // also after Ctrl-C
	type answer struct {
		value []byte
		err   error
	}
	got := make(chan answer, 1)
	go func() {
		value, err := xterm.ReadPassword(fd)
		got <- answer{value, err}
	}()
	// It is asked for when the terminal hides what is typed, not before.
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if now, err := xterm.GetState(fd); err != nil || !reflect.DeepEqual(now, before) {
			break
		}
	}
	_, _ = fmt.Fprintf(c.term.err, "value of %s (it is not shown): ", name)
	select {
	case <-ctx.Done():
		c.term.sayf("")
		return "", ctx.Err()
	case a := <-got:
		c.term.sayf("")
		if a.err != nil && !errors.Is(a.err, io.EOF) {
			return "", gapless.Errorf(gapless.Invalid, "read the value of %s: %w", name, a.err)
		}
		return string(a.value), nil
	}
}

func (c *command) listSecrets(app *string) *cobra.Command {
	return &cobra.Command{
		Use: "list [app]",
		Example: `  gapless secrets list
  gapless secrets list shop --json`,
		Short: "List an app's secrets: names and dates, never values",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, name, err := c.ofSecrets(cmd.Context(), append(args, *app)[0])
			if err != nil {
				return err
			}
			list, err := client.Secrets(cmd.Context(), name)
			if err != nil {
				return err
			}
			if c.json {
				return c.term.json(list)
			}
			if len(list) == 0 {
				c.term.answerf("%s has no secrets", name)
				c.term.hintf("gapless secrets set NAME")
				return nil
			}
			rows := [][]string{{"NAME", "SET"}}
			for _, s := range list {
				rows = append(rows, []string{s.Name, s.Set.Local().Format("2006-01-02 15:04:05")})
			}
			c.term.table(rows)
			return nil
		},
	}
}

func (c *command) removeSecret(app *string) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME…",
		Example: `  gapless secrets rm API_TOKEN
  gapless secrets rm --app shop API_TOKEN OLD_KEY`,
		Short: "Remove secrets; releases that exist keep them",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, name, err := c.ofSecrets(cmd.Context(), *app)
			if err != nil {
				return err
			}
			for _, secret := range args {
				if err := client.RemoveSecret(cmd.Context(), name, secret); err != nil {
					return err
				}
				if !c.json {
					c.term.answerf("%s %s is no secret of %s any more", good.Render("✓"), secret, name)
				}
			}
			if c.json {
				return c.term.json(map[string]any{"app": name, "removed": args})
			}
			c.term.hintf("it takes effect with the next release: gapless deploy")
			return nil
		},
	}
}

// ofSecrets is the daemon's client and the app whose secrets are meant.
func (c *command) ofSecrets(ctx context.Context, app string) (*api.Client, string, error) {
	client, err := c.client()
	if err != nil {
		return nil, "", err
	}
	name, err := c.named(ctx, client, app)
	return client, name, err
}

// refuseSecrets refuses --env for what is a secret of the app: two values
// that are both not in a file, and nobody could tell which one is meant.
func (c *command) refuseSecrets(ctx context.Context, client *api.Client, app string, f *appFlags) error {
	if len(f.env) == 0 {
		return nil
	}
	list, err := client.Secrets(ctx, app)
	if err != nil {
		if gapless.CodeOf(err) == gapless.NotFound { // a daemon of before there were secrets
			return nil
		}
		return err
	}
	for _, e := range f.env {
		name, _, _ := strings.Cut(e, "=")
		for _, s := range list {
			if s.Name == name {
				return gapless.Errorf(gapless.Invalid, "--env %s: that is a secret of %s already", name, app).
					WithHint("give it a new value: gapless secrets set %s; or make it a plain variable: gapless secrets rm %s", name, name)
			}
		}
	}
	return nil
}
