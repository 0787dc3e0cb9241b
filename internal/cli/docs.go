package cli

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gapless"
)

// docs is hidden: `make docs` writes the reference with it, and a test keeps
// the files that are checked in current.
func (c *command) docs() *cobra.Command {
	return &cobra.Command{
		Use:    "docs DIR",
		Short:  "Write the reference of commands and exit codes into a directory",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			pages := reference(cmd.Root())
			for _, name := range sortedKeys(pages) {
				path := filepath.Join(args[0], name)
				err := os.MkdirAll(filepath.Dir(path), 0o755)
				if err == nil {
					err = os.WriteFile(path, []byte(pages[name]), 0o644)
				}
				if err != nil {
					return gapless.Errorf(gapless.Unavailable, "write the reference: %w", err).WithHint("name a directory that you may write to")
				}
			}
			if c.json {
				return c.term.json(map[string]any{"pages": sortedKeys(pages)})
			}
			c.term.answerf("%s wrote %s to %s", good.Render("✓"), strings.Join(sortedKeys(pages), ", "), args[0])
			return nil
		},
	}
}

// sheets are the tables whose columns may be dropped.
func sheets() []sheet { return []sheet{statusSheet, releasesSheet, historySheet, topSheet} }

// reference makes the generated pages by file name.
func reference(root *cobra.Command) map[string]string {
	return map[string]string{"cli.md": cliPage(root), "exit-codes.md": exitPage()}
}

const generated = "<!-- Made by make docs from the code. Do not edit. -->\n\n"

func cliPage(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Commands\n\n" + generated)
	b.WriteString("The answer of a command goes to stdout, its story to stderr. `gapless COMMAND --help` says the same as this page. See also: [exit codes](exit-codes.md), [configuration](../configuration.md).\n\n")
	list := slices.DeleteFunc(commands(root), func(cmd *cobra.Command) bool { return !documented(cmd) })
	b.WriteString("| command | |\n| --- | --- |\n")
	for _, cmd := range list[1:] {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", cmd.CommandPath(), anchor(cmd), cmd.Short)
	}
	b.WriteString("\n## Flags of every command\n\n" + flagTable(root.PersistentFlags()))
	for _, cmd := range list[1:] {
		commandSection(&b, cmd)
	}
	b.WriteString("\n## Tables\n\nOn a terminal that is too narrow, a table leaves columns out, in the order below, until it fits. Free text is cut first. `--wide` leaves nothing out, `--columns a,b` picks. Off a terminal, nothing is left out.\n\n")
	b.WriteString("| table of | columns | left out, the first one first | only with `--wide` |\n| --- | --- | --- | --- |\n")
	for _, s := range sheets() {
		var always, wide []string
		for _, c := range s.columns {
			if c.wide {
				wide = append(wide, "`"+c.key()+"`")
			} else {
				always = append(always, "`"+c.key()+"`")
			}
		}
		fmt.Fprintf(&b, "| `gapless %s` | %s | %s | %s |\n", s.command, strings.Join(always, " "), strings.Join(s.dropped(), ", "), strings.Join(wide, " "))
	}
	b.WriteString("\n## Environment\n\n| variable | meaning |\n| --- | --- |\n")
	for _, v := range environment {
		fmt.Fprintf(&b, "| `%s` | %s |\n", v[0], v[1])
	}
	return b.String()
}

// environment is what the command line itself looks at.
var environment = [][2]string{
	{"GAPLESS_HOME", "where all state lives; two homes are two independent installations. Default: `/var/lib/gapless` for root, else `$XDG_STATE_HOME/gapless` or `~/.local/state/gapless`"},
	{"NO_COLOR", "set to anything: no colour; the same as `--no-color`"},
	{"CLICOLOR_FORCE", "`1`: colour off a terminal, too; NO_COLOR and `--no-color` win"},
	{"LC_ALL, LC_CTYPE, LANG", "the first one that is set: unless it names UTF-8, marks are ASCII"},
	{"CI", "set to anything: a line per event instead of a view that is drawn again"},
	{"TERM", "`dumb`: as with CI"},
	{"GITHUB_ACTIONS", "`true`: errors are also written as annotations"},
}

func documented(cmd *cobra.Command) bool {
	return !cmd.Hidden && cmd.Name() != "help" && (!cmd.HasParent() || documented(cmd.Parent()))
}

func anchor(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func commandSection(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n## %s\n\n%s\n\n", cmd.CommandPath(), sentence(orShort(cmd)))
	fmt.Fprintf(b, "    %s\n", cmd.UseLine())
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(b, "\nAlso: `%s`\n", strings.Join(cmd.Aliases, "`, `"))
	}
	if cmd.Example != "" {
		b.WriteString("\nExamples:\n\n```\n" + unindent(cmd.Example) + "\n```\n")
	}
	if table := flagTable(cmd.LocalNonPersistentFlags()); table != "" {
		b.WriteString("\n" + table)
	}
}

// sentence ends with a full stop and has no line that Markdown would take for code.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}

func unindent(text string) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "  ")
	}
	return strings.Join(lines, "\n")
}

// flagTable lists flags, "" if there are none.
func flagTable(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "`--" + f.Name
		kind, usage := pflag.UnquoteUsage(f)
		switch {
		case f.NoOptDefVal != "" && f.Value.Type() != "bool" && f.Value.Type() != "boolfunc":
			name += "[=" + kind + "]"
		case kind != "":
			name += " " + kind
		}
		name += "`"
		if f.Shorthand != "" {
			name += ", `-" + f.Shorthand + "`"
		}
		if d := f.DefValue; d != "" && d != "false" && d != "[]" && d != "0" && d != "0s" && !strings.Contains(usage, "default") {
			usage += " (default " + d + ")"
		}
		fmt.Fprintf(&b, "| %s | %s |\n", name, strings.ReplaceAll(usage, "|", "\\|"))
	})
	if b.Len() == 0 {
		return ""
	}
	return "| flag | meaning |\n| --- | --- |\n" + b.String()
}

// exits says what an exit code means. Which error has which is decided by
// gapless.Code alone; a test keeps the two together.
var exits = map[int]string{
	0:   "done",
	1:   "failed: nothing of a new release had started, there was no old one to go back to, or something that is needed does not answer",
	2:   "wrong usage or configuration; a name that does not exist",
	3:   "taken back after an instance of the new release had started; the old release serves",
	4:   "not allowed: somebody else's installation, or a port that this user may not have",
	5:   "`--timeout` was reached; the rollout goes on",
	8:   "the rollout waits for a person: `gapless resume`, `promote` or `abort` (0 with `--success-on-pause`)",
	10:  "`gapless plan --detailed-exitcode`: a deploy would change something",
	130: "detached with Ctrl-C; the rollout goes on (with `--on-interrupt=abort` it is taken back, and that is 3)",
}

func exitPage() string {
	var b strings.Builder
	b.WriteString("# Exit codes\n\n" + generated + "What a command ended with, and which errors of the API (`error.code`) lead to it.\n\n")
	b.WriteString("| exit code | meaning | errors |\n| --- | --- | --- |\n")
	byExit := map[int][]string{}
	for _, code := range gapless.Codes() {
		byExit[code.Exit()] = append(byExit[code.Exit()], fmt.Sprintf("`%s` (HTTP %d)", code, code.Status()))
	}
	for _, n := range slices.SortedFunc(maps.Keys(exits), cmp.Compare[int]) {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", n, exits[n], strings.Join(byExit[n], ", "))
	}
	b.WriteString("\nIn a script:\n\n```sh\ngapless deploy\ncase $? in\n  0) echo \"the new release serves\" ;;\n  3) echo \"taken back, the old release serves\"; exit 1 ;;\n  *) exit 1 ;;\nesac\n```\n")
	return b.String()
}
