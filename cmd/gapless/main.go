// Command gapless ships new versions of HTTP services without dropping a request.
package main

import (
	"os"

	"gapless/internal/cli"
)

func main() { os.Exit(cli.Main()) }
