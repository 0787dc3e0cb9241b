// Command lame is gapless with one process that does not come up: the one
// that the file lame beside GAPLESS_HOME names.
package main

import (
	"os"
	"strings"

	"gapless/internal/cli"
)

func main() {
	name, err := os.ReadFile(os.Getenv("GAPLESS_HOME") + ".lame")
	if err == nil && len(os.Args) > 1 && os.Args[1] == strings.TrimSpace(string(name)) {
		os.Exit(7)
	}
	os.Exit(cli.Main())
}
