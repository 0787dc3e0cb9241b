package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"gapless/internal/config"
	"gapless/internal/daemon"
)

func (c *command) config() *cobra.Command {
	var f appFlags
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the configuration of the app in this directory, and where each value comes from",
		Long: `Show what configures the app in this directory: gapless.yaml with the defaults
filled in, and where each value comes from. Of variables the names are shown,
not the values.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := c.configInput(cmd, f)
			if err != nil {
				return err
			}
			list, err := config.Explain(in)
			if err != nil {
				return err
			}
			if c.json {
				return c.term.json(list)
			}
			return c.printSettings(list)
		},
	}
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "configuration file (default gapless.yaml, if there is one)")
	cmd.AddCommand(c.configCheck(), c.configSchema())
	return cmd
}

// configInput is what a deploy from here would start from.
func (c *command) configInput(cmd *cobra.Command, f appFlags) (config.Input, error) {
	dir, err := os.Getwd()
	if err != nil {
		return config.Input{}, err
	}
	in := config.Input{Dir: dir, File: f.file}
	if remote() {
		return in, nil
	}
	client, err := c.client()
	if err != nil {
		return in, err
	}
	if a, err := c.here(cmd.Context(), client); err == nil && a != nil { // a daemon that cannot say is no reason not to
		in.Earlier = a.Flags
	}
	return in, nil
}

// printSettings writes YAML with the origin of each value as a comment.
func (c *command) printSettings(list []config.Setting) error {
	lines := make([]string, len(list))
	width := 0
	for i, s := range list {
		text, err := yaml.MarshalWithOptions(s.Value, yaml.Flow(true))
		if err != nil {
			return fmt.Errorf("write %s: %w", s.Key, err)
		}
		lines[i] = s.Key + ": " + strings.TrimSpace(string(text))
		if n := len([]rune(lines[i])); n <= 60 {
			width = max(width, n)
		}
	}
	for i, s := range list {
		pad := strings.Repeat(" ", max(0, width-len([]rune(lines[i]))))
		if err := c.term.printf("%s%s  %s\n", lines[i], pad, faint.Render("# "+s.From)); err != nil {
			return err
		}
	}
	return nil
}

func (c *command) configCheck() *cobra.Command {
	var f appFlags
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration: exit code 0 if it is fine, 2 if not",
		Long: `Check the configuration of the app in this directory, with the files that it
names: also whether a certificate and its key are a pair, in force and for the
app's hosts. Every problem of the file is told at once, with its line.

Exit codes: 0 fine · 2 not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			app, _, err := f.load(nil, false, nil)
			if err != nil {
				return err
			}
			if err := daemon.CheckTLS(app, time.Now()); err != nil { // as up and deploy would
				return err
			}
			if c.json {
				return c.term.json(map[string]any{"app": app.Name, "ok": true})
			}
			c.term.answerf("%s the configuration of %s is fine", good.Render("✓"), app.Name)
			return nil
		},
	}
	cmd.Flags().StringVarP(&f.file, "config", "c", "", "configuration file (default gapless.yaml, if there is one)")
	return cmd
}

func (c *command) configSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of gapless.yaml, for editors",
		Long: `Print the JSON Schema of gapless.yaml. Editors with a YAML language server use it
when it is saved beside the file and named in its first line:

  # yaml-language-server: $schema=gapless.schema.json`,
		Example: `  gapless config schema >gapless.schema.json`,
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			enc := json.NewEncoder(os.Stdout)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			return enc.Encode(config.Schema())
		},
	}
}
