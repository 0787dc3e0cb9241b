package cli

import (
	"bufio"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"gapless"
	"gapless/internal/config"
)

// initialized is what `gapless init --json` prints.
type initialized struct {
	File string `json:"file"`
	config.Advice
}

func (c *command) init() *cobra.Command {
	var a config.Answers
	var force bool
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Write a commented gapless.yaml that fits your team, costs and risks",
		Long: `Write a commented gapless.yaml. Three questions choose the strategy, and their
answers can be given as flags:

  team     people who work on the app
  cost     how much costs matter: low, moderate or high
  risk     how much risk is tolerated: low, moderate or high

A startup (1 to 5, cost high, risk moderate) gets rolling; a company of up to 50
(moderate, moderate) canary; an enterprise (cost low, risk low) blue-green. The
file says why, and what it costs in instances, time and risk.`,
		Example: `  gapless init
  gapless init --team 20 --cost moderate --risk moderate`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := standing()
			if err != nil {
				return err
			}
			path := filepath.Join(dir, config.FileName)
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) && !force {
				return gapless.Errorf(gapless.Invalid, "%s exists already", path).WithHint("look at it, then: gapless init --force")
			}
			if err := c.askAnswers(cmd.Context(), cmd, &a); err != nil {
				return err
			}
			if err := a.Check(); err != nil {
				return err
			}
			advice := config.Advise(a)
			text, complete := starter(dir, advice)
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				return gapless.Errorf(gapless.Unavailable, "write %s: %w", path, err)
			}
			if c.json {
				return c.term.json(initialized{path, advice})
			}
			t := c.term
			t.answerf("%s %s: %s", good.Render("✓"), path, advice.Strategy)
			t.answerf("  why        %s", advice.Why)
			t.answerf("  instances  %s", advice.Instances)
			t.answerf("  time       %s", advice.Time)
			t.answerf("  risk       %s", advice.Risk)
			if !complete {
				t.hintf("nothing here says what to run: write it as run: in %s, then: gapless up", config.FileName)
			} else {
				t.hintf("start the app with: gapless up")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&a.Team, "team", 0, "people who work on the app")
	f.StringVar(&a.Cost, "cost", "", "how much costs matter: low, moderate, high")
	f.StringVar(&a.Risk, "risk", "", "how much risk is tolerated: low, moderate, high")
	f.BoolVar(&force, "force", false, "replace a gapless.yaml that is there")
	return cmd
}

// starter is the text of the file for the app in dir. complete says that the
// directory tells what to run.
func starter(dir string, advice config.Advice) (text string, complete bool) {
	name := "app"
	empty, err := os.CreateTemp("", "gapless-init-*.yaml") // in the place of one that may be there
	if err == nil {
		_ = empty.Close()
		defer func() { _ = os.Remove(empty.Name()) }()
		in := config.Input{Dir: dir, File: empty.Name()}
		app, err := config.Load(in)
		complete = err == nil && app.Process(gapless.WebProcess) != nil
		if err != nil { // only its name is of use
			in.Exact, in.Args = true, []string{"true"}
			app, err = config.Load(in)
		}
		if err == nil {
			name = app.Name
		}
	}
	return advice.File(name, ""), complete
}

// askAnswers asks for the answers that no flag gave.
func (c *command) askAnswers(ctx context.Context, cmd *cobra.Command, a *config.Answers) error {
	given := func(flag string) bool { return cmd.Flags().Changed(flag) }
	if given("team") && given("cost") && given("risk") {
		return nil
	}
	if !xterm.IsTerminal(int(os.Stdin.Fd())) {
		return gapless.Errorf(gapless.Invalid, "there is no terminal to ask on").
			WithHint("give the answers: gapless init --team N --cost low|moderate|high --risk low|moderate|high")
	}
	ask := asker(ctx, c.term, os.Stdin)
	if !given("team") {
		err := ask("How many people work on the app?", "", func(text string) bool {
			n, err := strconv.Atoi(text)
			a.Team = n
			return err == nil && n > 0
		})
		if err != nil {
			return err
		}
	}
	for _, q := range []struct {
		flag, text string
		to         *string
	}{{"cost", "How much do costs matter?", &a.Cost}, {"risk", "How much risk is tolerated?", &a.Risk}} {
		if given(q.flag) {
			continue
		}
		err := ask(q.text+" ("+strings.Join(config.Levels, ", ")+")", "moderate", func(text string) bool {
			*q.to = ""
			for _, level := range config.Levels { // l, m, h are enough
				if text != "" && strings.HasPrefix(level, strings.ToLower(text)) {
					*q.to = level
				}
			}
			return *q.to != ""
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// asker asks until an answer is taken. An empty answer is the usual one, if
// there is a usual one.
func asker(ctx context.Context, t *term, in io.Reader) func(question, usual string, take func(string) bool) error {
	type line struct {
		text string
		err  error
	}
	lines := make(chan line)
	go func() {
		r := bufio.NewReader(in)
		for {
			text, err := r.ReadString('\n')
			select {
			case lines <- line{strings.TrimSpace(text), err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return func(question, usual string, take func(string) bool) error {
		for {
			if usual != "" {
				question = strings.TrimSuffix(question, " ["+usual+"]") + " [" + usual + "]"
			}
			_, _ = io.WriteString(t.err, question+" ")
			select {
			case <-ctx.Done():
				t.sayf("")
				return ctx.Err()
			case l := <-lines:
				if l.text == "" && l.err == nil {
					l.text = usual
				}
				if take(l.text) {
					return nil
				}
				if l.err != nil {
					t.sayf("")
					return gapless.Errorf(gapless.Invalid, "no answer: %w", l.err).WithHint("give the answers as flags: gapless init --help")
				}
			}
		}
	}
}
