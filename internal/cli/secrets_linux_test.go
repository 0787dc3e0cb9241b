package cli

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gapless"
)

func TestSecretIsNotShown(t *testing.T) {
	x := startIn(t, 80, 24, "GAPLESS_TEST_ASK=TOKEN")
	x.shows("value of TOKEN (it is not shown): ")
	x.hit("typed-value\n")
	if code := x.exit(); code != 0 {
		t.Errorf("exit code %d\n%s", code, x.screen())
	}
	if out := x.output(); strings.Contains(out, "typed") || !strings.Contains(out, "11 bytes") {
		t.Errorf("%q", out)
	}
}

// Ctrl-C leaves, and the terminal shows again what is typed.
func TestSecretIsNotGiven(t *testing.T) {
	x := startIn(t, 80, 24, "GAPLESS_TEST_ASK=TOKEN")
	x.shows("value of TOKEN (it is not shown): ")
	x.hit("half\x03")
	if code := x.exit(); code != gapless.Detached.Exit() {
		t.Errorf("exit code %d\n%s", code, x.screen())
	}
	if strings.Contains(x.output(), "half") {
		t.Errorf("%q", x.output())
	}
	state, err := unix.IoctlGetTermios(int(x.master.Fd()), unix.TCGETS)
	if err != nil || state.Lflag&unix.ECHO == 0 {
		t.Errorf("the terminal hides what is typed: %v, %v", state, err)
	}
}

func TestSecretArguments(t *testing.T) {
	for _, args := range [][]string{{}, {"A=hunter2"}, {"A", "hunter2"}, {"hunter2!=x"}, {"PORT"}} {
		err := checkSecretArgs(args)
		if gapless.CodeOf(err) != gapless.Invalid || strings.Contains(err.Error()+gapless.HintOf(err), "hunter2") {
			t.Errorf("%q: %v", args, err)
		}
	}
	if err := checkSecretArgs([]string{"API_TOKEN"}); err != nil {
		t.Error(err)
	}
}
