package cli

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

// remote reports whether commands are meant for a daemon elsewhere.
func remote() bool { return os.Getenv("GAPLESS_HOST") != "" }

func remoteClient() (*api.Client, error) {
	return api.NewRemote(api.RemoteConfig{Host: os.Getenv("GAPLESS_HOST"), Token: os.Getenv("GAPLESS_TOKEN"),
		CA: os.Getenv("GAPLESS_CA"), Fingerprint: os.Getenv("GAPLESS_FINGERPRINT")})
}

// anywhere are the commands that work on a daemon elsewhere, and those that
// need none. The others need files or processes of the machine.
var anywhere = strings.Fields(`status logs plan promote pause resume abort hold maintenance rollback restart scale releases history show
	top metrics secrets notify alerts certs man docs audit token run-once version config help completion proxy __complete __completeNoDesc keeper daemon edge judge`)

// refuseRemote keeps a command from doing here what was meant for elsewhere.
func refuseRemote(cmd *cobra.Command) error {
	if !remote() {
		return nil
	}
	top := cmd
	for top.HasParent() && top.Parent().HasParent() {
		top = top.Parent()
	}
	for _, name := range anywhere {
		if top.Name() == name {
			return nil
		}
	}
	if all := top.Flags().Lookup("all"); top.Name() == "down" && all != nil && !all.Changed {
		return nil
	}
	hint := "run it there, or unset GAPLESS_HOST"
	if top.Name() == "deploy" || top.Name() == "up" {
		hint = "the source is on the server: run it there, as in ssh SERVER 'cd APP && gapless deploy'"
	}
	return gapless.Errorf(gapless.NotAllowed, "gapless %s works on the machine that gapless runs on, and GAPLESS_HOST is %s", top.Name(), os.Getenv("GAPLESS_HOST")).
		WithHint("%s", hint)
}
