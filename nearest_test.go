package gapless_test

import (
	"strings"
	"testing"

	"gapless"
)

func TestNearest(t *testing.T) {
	known := []string{"app", "run", "instances", "health", "start_timeout", "env_file"}
	for in, want := range map[string]string{
		"instnces": "instances", "Instances": "instances", "helath": "health", "start-timeout": "start_timeout",
		"ap": "app", "rnu": "run", "xyz": "", "": "", "envfile": "env_file", strings.Repeat("x", 1000): "",
	} {
		if got := gapless.Nearest(in, known); got != want {
			t.Errorf("nearest(%q) = %q, want %q", in, got, want)
		}
	}
}
