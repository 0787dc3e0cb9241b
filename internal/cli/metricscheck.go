package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/config"
)

func (c *command) metricsCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check [app]",
		Short: "Ask each outside metric once and show what it returns",
		Long: `Ask Prometheus, Datadog or CloudWatch each query of judge: { metrics: … } once,
for the stable release and for the candidate if there is one, and show what came
back: a value, empty, nan, error or stale. Only a value is data.

In an app's directory, what its gapless.yaml says is asked; with a name, what
its newest release says. Exit code 0 only if all of them returned a value.`,
		Example: `  gapless metrics check
  gapless metrics check shop`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			name, err := c.appName(cmd.Context(), client, args)
			if err != nil {
				return err
			}
			readings, err := c.readMetrics(cmd.Context(), client, name, len(args) > 0)
			if err != nil {
				return err
			}
			if c.json {
				err = c.answer(readings)
			} else {
				c.printReadings(readings)
			}
			if err != nil {
				return err
			}
			without := 0
			for _, r := range readings {
				if r.Kind != gapless.ReadValue {
					without++
				}
			}
			if without > 0 {
				return gapless.Errorf(gapless.Unavailable, "%d of %d queries returned no value: no data is never a pass", without, len(readings)).
					WithHint("what each of them needs stands beside it")
			}
			return nil
		},
	}
}

// readMetrics asks what the file of this directory says, or the releases.
func (c *command) readMetrics(ctx context.Context, client *api.Client, name string, named bool) ([]api.MetricReading, error) {
	if named || client.Remote() {
		return client.CheckMetrics(ctx, name)
	}
	dir, err := standing()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, config.FileName)); err != nil {
		return client.CheckMetrics(ctx, name)
	}
	app, err := config.Load(config.Input{Dir: dir})
	if err != nil {
		return nil, err
	}
	if len(app.Judge.Metrics) == 0 {
		return client.CheckMetrics(ctx, name)
	}
	return client.TryMetrics(ctx, name, api.MetricRequest{Metrics: app.Judge.Metrics})
}

func (c *command) printReadings(readings []api.MetricReading) {
	last := ""
	for _, r := range readings {
		if r.Metric != last {
			c.term.answerf("%s  %s", bold.Render(r.Metric), r.Source)
			last = r.Metric
		}
		c.term.answerf("  %s %s  %s", readingMark(r), plainText(r.Role+" "+r.Release), plainText(readingLine(r)))
		if r.Reached {
			c.term.answerf("      the source itself answers: it is the query")
		}
		if r.Hint != "" {
			c.term.answerf("      hint: %s", plainText(r.Hint))
		}
	}
}

func readingMark(r api.MetricReading) string {
	switch r.State {
	case gapless.MetricGood:
		return good.Render("✓")
	case gapless.MetricFailing:
		return bad.Render("✗")
	}
	return "?"
}

// readingLine is the kind of a reading and what belongs to it.
func readingLine(r api.MetricReading) string {
	switch {
	case r.Kind != gapless.ReadValue && r.Why == "":
		return string(r.Kind)
	case r.Kind != gapless.ReadValue:
		return string(r.Kind) + ": " + r.Why
	case r.Meaning == "":
		return fmt.Sprintf("value %.6g", r.Value)
	}
	return fmt.Sprintf("value %.6g: %s", r.Value, r.Meaning)
}

// metricLines say how outside metrics stand; none where there are none.
func metricLines(r gapless.Rollout) []string {
	var out []string
	for _, m := range r.Metrics {
		text := fmt.Sprintf("  metric %s: ", m.Name)
		switch m.State {
		case gapless.MetricWaiting:
			text += "not asked yet"
			if r.Outcome == gapless.Running {
				text += ", from " + m.Due.Local().Format("15:04:05") + " on"
			}
		case gapless.MetricGood:
			text += m.Why
		case gapless.MetricFailing:
			text += "fails: " + m.Why
		default:
			text += m.Why
		}
		if m.Checks > 0 {
			text += fmt.Sprintf(" · %s ago · %d checks, %d failed (limit %d)", age(m.Last.Time), m.Checks, m.Failures, m.Limit)
		}
		if m.NoData > 0 {
			text += fmt.Sprintf(", %d without data", m.NoData)
		}
		out = append(out, plainText(text))
	}
	return out
}
