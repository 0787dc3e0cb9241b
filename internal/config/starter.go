package config

import (
	"fmt"
	"slices"
	"strings"

	"gapless"
)

// Levels of cost sensitivity and of risk tolerance.
var Levels = []string{"low", "moderate", "high"}

// Answers are what a person says of themselves before their first gapless.yaml.
type Answers struct {
	Team int    // people who work on the app
	Cost string // sensitivity to cost: low, moderate, high
	Risk string // tolerance of risk: low, moderate, high
}

// Check refuses answers that are none.
func (a Answers) Check() error {
	switch {
	case a.Team < 1:
		return gapless.Errorf(gapless.Invalid, "a team of %d is none", a.Team).WithHint("write --team 5")
	case !slices.Contains(Levels, a.Cost):
		return gapless.Errorf(gapless.Invalid, "unknown cost sensitivity %s", quote(a.Cost)).WithHint("one of: %s", strings.Join(Levels, ", "))
	case !slices.Contains(Levels, a.Risk):
		return gapless.Errorf(gapless.Invalid, "unknown risk tolerance %s", quote(a.Risk)).WithHint("one of: %s", strings.Join(Levels, ", "))
	}
	return nil
}

// Advice is a strategy, why it fits, and what it costs.
type Advice struct {
	Strategy  string `json:"strategy"`
	Why       string `json:"why"`
	Instances string `json:"instances"`
	Time      string `json:"time"`
	Risk      string `json:"risk"`
}

// Advise chooses a strategy. Three answers are given: a startup of up to 5 with
// high cost sensitivity and moderate risk rolls, a company of up to 50 with
// moderate both runs canaries, an enterprise with low cost sensitivity and low
// risk goes blue-green. In between, cost limits first: a second set of
// instances has to be wanted; then risk decides, then the team's size.
func Advise(a Answers) Advice {
	switch {
	case a.Cost == "low" && a.Risk == "low":
		return blueGreen("a second whole set is affordable, and going back has to take one moment: the old set stays as it is until the new one has proven itself")
	case a.Risk == "low":
		return canary("little risk is tolerated, and a second whole set costs too much: a small share meets the new release first, and is judged")
	case a.Cost == "high" || a.Risk == "high":
		return rolling("no instances beside those that serve are wanted, and a quarter of the traffic for some seconds is a fair price for it")
	case a.Team <= 5:
		return rolling("a small team has nobody to watch a rollout for minutes: it goes by itself, and comes back by itself")
	default:
		return canary("changes of several people meet in one release: a share that rises only as the release is proven finds out that one is bad while few have met it, and feature flags part shipping from showing")
	}
}

func rolling(why string) Advice {
	return Advice{gapless.StrategyRolling, why,
		"one more than usual while a rollout runs",
		"about 15 s for two instances: start, 10 s of watching, exchange",
		"up to 25 % of the requests meet a bad release, until about four bad answers; 10 s are watched, what breaks later is for you to see"}
}

func canary(why string) Advice {
	return Advice{gapless.StrategyCanary, why,
		"up to twice as many while a rollout runs, as each share needs",
		"as long as the proof takes: about three minutes at 100 requests per second, under one at 1000; after 30 minutes a person is asked",
		"1 % of the requests meet a bad release first, and no more than its bound on harm allows after that; without enough traffic a person is asked"}
}

func blueGreen(why string) Advice {
	return Advice{gapless.StrategyBlueGreen, why,
		"twice as many while a rollout runs and for 30 minutes after it",
		"starting a whole set, at most 2 minutes of judging, then one change of the route",
		"10 % of the requests meet a bad release for at most 2 minutes; gapless rollback is instant for 30 minutes"}
}

// File is a commented gapless.yaml for an app of that name; run is its
// command, "" if the directory itself says it.
func (v Advice) File(app, run string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# gapless.yaml: everything has a default, so every line here may go.
# Reference: docs/configuration.md. See what a deploy would do: gapless plan
#
# Strategy %s
#   why:       %s
#   instances: %s
#   time:      %s
#   risk:      %s

app: %s
`, v.Strategy, hang(v.Why), hang(v.Instances), hang(v.Time), hang(v.Risk), app)
	if run != "" {
		fmt.Fprintf(&b, "run: %s\n", run)
	} else {
		b.WriteString("# run: node server.js            # default: the start script of package.json\n")
	}
	b.WriteString(starters[v.Strategy])
	b.WriteString(`
# A path that says whether the app is well. Without it, a connection that is accepted does.
# health: { path: /healthz, timeout: 2s }

drain: 30s                        # longest wait for requests in flight before an instance is stopped
# shared: [uploads]               # directories that outlive releases

# Variables of the app. What nobody should read: gapless secrets set NAME
# env:
#   LOG_LEVEL: info
# env_file: .env

# Further processes: released together, but without traffic.
# processes:
#   worker: { run: node worker.js, instances: 2 }
#   nightly: { run: node report.js, cron: "0 3 * * *" }
`)
	return b.String()
}

// comment is text as comment lines that begin with mark.
func comment(mark, text string) string {
	const width = 88
	var b strings.Builder
	col := 0
	for _, word := range strings.Fields(text) {
		switch {
		case col == 0:
			b.WriteString(mark + word)
			col = len(mark)
		case col+1+len(word) > width:
			b.WriteString("\n" + mark + word)
			col = len(mark)
		default:
			b.WriteString(" " + word)
			col++
		}
		col += len(word)
	}
	return b.String()
}

// hang is text beside its label, aligned where it is longer than a line.
func hang(text string) string {
	const mark = "#              "
	return strings.TrimPrefix(comment(mark, text), mark)
}

var starters = map[string]string{
	gapless.StrategyRolling: `instances: 2                      # processes of this machine; max is one per processor

strategy: rolling
soak: 10s                         # how long the first new instance is watched under a quarter of the traffic
`,
	gapless.StrategyCanary: `instances: 4                      # a number, or max for one per processor

strategy: canary                  # its share rises as it is proven not worse; then it gets everything

# Feature flags are not built yet. When they are, they part shipping from showing:
# flags:
#   new-checkout: { default: off, rules: [{ group: beta, value: on }] }
`,
	gapless.StrategyBlueGreen: `instances: 4                      # of one set; there are two while a rollout runs

strategy: blue-green
preview: { header: "X-Preview: next" }   # requests with it reach the new release at once
judge:
  within: 2m                      # judged at 10 % before all traffic moves
  on_undecided: pause             # then a person decides: gapless resume, promote or abort
keep: 30m                         # the old set stays warm: gapless rollback is one change of the route

# In CI, which deploys and nobody else does:
#   gapless plan --detailed-exitcode                  # 10: there is something to ship
#   gapless deploy --timeout 30m --json=stream        # one event per line; keep them as the build's record
#   exit codes: 0 promoted · 3 taken back · 8 waits for a person · 5 still under way
# Audit: gapless history --json says what was shipped when and how it ended,
# gapless show ROLLOUT --json has every event and verdict of one rollout.
`,
}
