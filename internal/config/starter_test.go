package config

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gapless"
)

func TestAdvise(t *testing.T) {
	for _, c := range []struct {
		Answers
		want string
	}{
		{Answers{1, "high", "moderate"}, gapless.StrategyRolling}, // the table of three
		{Answers{5, "high", "moderate"}, gapless.StrategyRolling},
		{Answers{6, "moderate", "moderate"}, gapless.StrategyCanary},
		{Answers{50, "moderate", "moderate"}, gapless.StrategyCanary},
		{Answers{51, "low", "low"}, gapless.StrategyBlueGreen},

		{Answers{2, "low", "low"}, gapless.StrategyBlueGreen},
		{Answers{5000, "high", "low"}, gapless.StrategyCanary}, // never a second set where cost matters most
		{Answers{5, "moderate", "moderate"}, gapless.StrategyRolling},
		{Answers{80, "low", "moderate"}, gapless.StrategyCanary},
		{Answers{80, "low", "high"}, gapless.StrategyRolling},
		{Answers{20, "high", "high"}, gapless.StrategyRolling},
	} {
		if err := c.Check(); err != nil {
			t.Error(err)
		}
		if got := Advise(c.Answers); got.Strategy != c.want {
			t.Errorf("%+v: %s, want %s", c.Answers, got.Strategy, c.want)
		}
	}
	for _, a := range []Answers{{0, "low", "low"}, {-1, "low", "low"}, {1, "", "low"}, {1, "low", "none"}} {
		if err := a.Check(); gapless.CodeOf(err) != gapless.Invalid || gapless.HintOf(err) == "" {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

// All answers make a file that loads as what was advised; the three of the
// table are golden.
func TestStarterLoads(t *testing.T) {
	golden := map[Answers]string{{3, "high", "moderate"}: "rolling", {20, "moderate", "moderate"}: "canary", {80, "low", "low"}: "blue-green"}
	for _, team := range []int{3, 20, 80} {
		for _, cost := range Levels {
			for _, risk := range Levels {
				a := Answers{team, cost, risk}
				v := Advise(a)
				text := v.File("shop", "")
				for _, line := range strings.Split(text, "\n") {
					if strings.TrimRight(line, " ") != line || strings.ContainsRune(line, '\u2014') || len(line) > 115 {
						t.Errorf("%q", line)
					}
				}
				flat := strings.Join(strings.Fields(strings.ReplaceAll(text, "#", "")), " ")
				for _, cost := range []string{v.Why, v.Instances, v.Time, v.Risk} {
					if cost == "" || !strings.Contains(flat, cost) {
						t.Errorf("%+v does not say %q", a, cost)
					}
				}
				dir := write(t, map[string]string{FileName: text, "package.json": `{"scripts": {"start": "node x.js"}}`})
				app, err := load(Input{Dir: dir}, 4)
				if err != nil {
					t.Fatalf("%+v: %v\n%s", a, err, text)
				}
				if app.Strategy != v.Strategy || app.Name != "shop" {
					t.Errorf("%+v: %s of %s", a, app.Strategy, app.Name)
				}
				if name, is := golden[a]; is {
					file := "testdata/starter/" + name + ".yaml"
					if *update {
						if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
							t.Fatal(err)
						}
					}
					want, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					if d := cmp.Diff(string(want), text); d != "" {
						t.Errorf("%s (-want +got; go test -update rewrites it):\n%s", file, d)
					}
				}
				dir = write(t, map[string]string{FileName: v.File("shop", "node other.js")})
				if app, err := load(Input{Dir: dir}, 4); err != nil || app.Processes[0].Run != "node other.js" {
					t.Errorf("with run: %+v, %v", app, err)
				}
			}
		}
	}
}

// What is commented in the files is right where it is read, too.
func TestStarterComments(t *testing.T) {
	text := Advise(Answers{3, "high", "moderate"}).File("shop", "node server.js")
	_, rest, _ := strings.Cut(text, "app: shop")
	var b strings.Builder
	for _, line := range strings.Split("app: shop"+rest, "\n") {
		key, _, isKey := strings.Cut(strings.TrimPrefix(line, "# "), ":")
		if strings.HasPrefix(line, "#   ") || isKey && strings.HasPrefix(line, "# ") && !strings.Contains(key, " ") && key != "run" {
			line = strings.TrimPrefix(line, "# ")
		}
		b.WriteString(line + "\n")
	}
	app, err := load(Input{Dir: write(t, map[string]string{FileName: b.String(), ".env": "A=1"})}, 4)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.String())
	}
	if app.Health.Path != "/healthz" || len(app.Processes) != 3 || app.Env["LOG_LEVEL"] != "info" || len(app.EnvFiles) != 1 || len(app.Shared) != 1 {
		t.Errorf("%+v\n%s", app, b.String())
	}
}
