package cli

import "testing"

func TestMetricsOfAPortAloneAreOfThisMachine(t *testing.T) {
	for addr, want := range map[string]string{
		"9100": "127.0.0.1:9100", ":9100": ":9100", "10.0.0.1:9100": "10.0.0.1:9100", "99999": "99999", "x": "x",
	} {
		if got := nearby(addr); got != want {
			t.Errorf("%q: %q, want %q", addr, got, want)
		}
	}
}
