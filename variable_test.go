package gapless_test

import (
	"testing"

	"gapless"
)

func TestLooksSecret(t *testing.T) {
	for _, c := range []struct {
		name, value string
		want        bool
	}{
		{"DB_PASSWORD", "x", true},
		{"API_KEY", "x", true},
		{"apiKey", "x", true},
		{"GITHUB_TOKEN", "x", true},
		{"JWT_SECRETS", "x", true},
		{"DATABASE_URL", "postgres://u:p@h/db", true},
		{"DATABASE_URL", "postgres://h/db", false},
		{"NODE_ENV", "production", false},
		{"KEYBOARD", "qwerty", false},
		{"MONKEY", "1", false},
		{"PASSENGERS", "4", false},
		{"AUTHOR", "me", false},
	} {
		if got := gapless.LooksSecret(c.name, c.value); got != c.want {
			t.Errorf("LooksSecret(%s, %s) = %v", c.name, c.value, got)
		}
	}
}

func TestCheckVariable(t *testing.T) {
	for name, ok := range map[string]bool{"A": true, "_a1": true, "": false, "1A": false, "A-B": false, "A B": false,
		"PORT": false, "GAPLESS_X": false, "A=B": false, "ü": false, "A\n": false} {
		if err := gapless.CheckVariable(name); (err == nil) != ok {
			t.Errorf("CheckVariable(%q) = %v", name, err)
		}
	}
}
