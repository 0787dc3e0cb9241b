package daemon

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"gapless"
)

func TestSessionKeys(t *testing.T) {
	home := Home(t.TempDir())
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	keys := func(at time.Time) gapless.SessionKeys {
		t.Helper()
		k, err := sessionKeys(home, at)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	first := keys(now)
	if len(first) != 1 || len(first[0]) != gapless.SessionKeySize {
		t.Fatalf("%d keys", len(first))
	}
	info, err := os.Stat(home.SessionKey())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if again := keys(now.Add(keyLife - 1)); len(again) != 1 || string(again[0]) != string(first[0]) {
		t.Error("another key before it is time")
	}
	second := keys(now.Add(keyLife))
	if len(second) != 2 || string(second[0]) == string(first[0]) || string(second[1]) != string(first[0]) {
		t.Error("the key before is not believed")
	}
	if third := keys(now.Add(3 * keyLife)); len(third) != 2 || string(third[1]) != string(second[0]) {
		t.Error("old keys stay")
	}
	if text := fmt.Sprintf("%v %+v %#v %s", first, first, gapless.Table{SessionKeys: first}, first); strings.Count(text, "[session keys]") != 4 || strings.Contains(text, fmt.Sprint(first[0])) {
		t.Errorf("they can be seen: %s", text)
	}

	if err := os.Chmod(home.SessionKey(), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := sessionKeys(home, now); err == nil || gapless.HintOf(err) == "" {
		t.Errorf("keys that others can read: %v", err)
	}
	if err := os.Chmod(home.SessionKey(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "[]", "{", `[{"key":"AAAA"}]`} {
		if err := os.WriteFile(home.SessionKey(), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sessionKeys(home, now); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if err := os.Remove(home.SessionKey()); err != nil {
		t.Fatal(err)
	}
	if anew := keys(now); string(anew[0]) == string(first[0]) {
		t.Error("the same key again")
	}
}
