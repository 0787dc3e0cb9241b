package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/config"
	"gapless/internal/pm2"
)

// ecosystems are the names that PM2's file usually has.
var ecosystems = []string{"ecosystem.config.js", "ecosystem.config.cjs", "ecosystem.config.mjs", "ecosystem.config.json", "ecosystem.json", "process.json"}

func (c *command) imports() *cobra.Command {
	cmd := &cobra.Command{Use: "import", Short: "Write gapless.yaml from the configuration of something else", Args: cobra.NoArgs}
	cmd.AddCommand(c.importPM2())
	return cmd
}

func (c *command) importPM2() *cobra.Command {
	var env string
	var force, show bool
	cmd := &cobra.Command{
		Use:   "pm2 [FILE]",
		Short: "Write gapless.yaml from PM2's ecosystem file, and say what became of every field",
		Long: `Read an ecosystem file (.js, .cjs and .mjs are run by node, .json is read) and
write gapless.yaml. Nothing of PM2 is started, stopped or changed.

Apps of one directory become one file: the one that serves HTTP (cluster mode, a
port) is its web process, the others are processes beside it; a second one that
serves HTTP becomes gapless.<name>.yaml. Apps of other directories (cwd) get a
file there. Variables that look like secrets are left out, with the command
that keeps them: gapless secrets set.`,
		Example: `  gapless import pm2
  gapless import pm2 --env production --print`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := ecosystem(args)
			if err != nil {
				return err
			}
			data, err := pm2.Evaluate(cmd.Context(), file)
			if err != nil {
				return err
			}
			eco, err := pm2.Parse(data)
			if err != nil {
				return err
			}
			res, err := pm2.Convert(eco, pm2.Options{Dir: filepath.Dir(file), Env: env, CPUs: runtime.GOMAXPROCS(0)})
			if err != nil {
				return err
			}
			if show {
				for _, f := range res.Files {
					c.term.answerf("# %s\n%s", filepath.Join(f.Dir, f.Name), strings.TrimSuffix(f.Text, "\n"))
				}
			} else if err := writeImported(res.Files, force); err != nil {
				return err
			}
			if c.json {
				return c.term.json(res)
			}
			c.reportImport(res, show)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&env, "env", "", "take the variables of env_NAME over those of env")
	f.BoolVar(&force, "force", false, "replace files that are there")
	f.BoolVar(&show, "print", false, "print the files and write nothing")
	return cmd
}

// ecosystem is the absolute path of the file that is meant.
func ecosystem(args []string) (string, error) {
	dir, err := standing()
	if err != nil {
		return "", err
	}
	if len(args) > 0 {
		if filepath.IsAbs(args[0]) {
			return args[0], nil
		}
		return filepath.Join(dir, args[0]), nil
	}
	for _, name := range ecosystems {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return filepath.Join(dir, name), nil
		}
	}
	return "", gapless.Errorf(gapless.NotFound, "no ecosystem file in %s: looked for %s", dir, strings.Join(ecosystems, ", ")).
		WithHint("name it: gapless import pm2 FILE")
}

// writeImported writes all files or, where one is there already, none.
func writeImported(files []pm2.File, force bool) error {
	for _, f := range files {
		path := filepath.Join(f.Dir, f.Name)
		if _, err := os.Lstat(path); err == nil && !force {
			return gapless.Errorf(gapless.Invalid, "%s exists already", path).WithHint("look at it, then: gapless import pm2 --force; or only see what would be written: --print")
		}
	}
	for _, f := range files {
		path := filepath.Join(f.Dir, f.Name)
		if err := os.WriteFile(path, []byte(f.Text), 0o644); err != nil {
			return gapless.Errorf(gapless.Unavailable, "write %s: %w", path, err)
		}
	}
	return nil
}

// reportImport says what became of everything. With show nothing was written.
func (c *command) reportImport(res *pm2.Result, show bool) {
	t := c.term
	for _, part := range []struct {
		fate pm2.Fate
		head string
	}{
		{pm2.Carried, "carried over, and worth a look"},
		{pm2.Needless, "not needed here"},
		{pm2.Left, "left out"},
	} {
		notes := slices.DeleteFunc(slices.Clone(res.Notes), func(n pm2.Note) bool { return n.Fate != part.fate })
		if len(notes) == 0 {
			continue
		}
		t.sayf("%s", bold.Render(part.head))
		for _, n := range notes {
			t.sayf("  %s: %s", plainText(strings.TrimPrefix(n.App+" "+n.Field, " ")), plainText(n.Why))
		}
	}
	if show {
		return
	}
	for _, f := range res.Files {
		path := filepath.Join(f.Dir, f.Name)
		t.answerf("%s %s (app %s)", good.Render("✓"), path, f.App)
		if _, err := config.Load(config.Input{Dir: f.Dir, File: f.Name}); err != nil {
			t.sayf("%s it needs your hand:\n%s", bad.Render("!"), err)
		}
		if len(f.Secrets) > 0 {
			t.hintf("keep what looked like secrets: %s", secretCommands(f))
		}
		if f.Name == config.FileName {
			t.hintf("start it, in %s, with: gapless up", f.Dir)
		} else {
			t.hintf("start it, in %s, with: gapless up -c %s", f.Dir, f.Name)
		}
	}
}

func secretCommands(f pm2.File) string {
	var out []string
	for _, name := range f.Secrets {
		out = append(out, fmt.Sprintf("gapless secrets set --app %s %s", f.App, name))
	}
	return strings.Join(out, " · ")
}
