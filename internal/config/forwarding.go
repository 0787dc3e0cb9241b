package config

import "gapless"

// parseNetwork reads an address or a network in CIDR.
func parseNetwork(s string) (string, *fault) {
	if _, err := gapless.Networks([]string{s}); err != nil {
		return "", faultf("%s", err).withHint("write a network such as 10.0.0.0/8, or one address")
	}
	return s, nil
}
