package cli

import (
	"regexp"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

var (
	releaseName = regexp.MustCompile(`^v[0-9]+$`)
	bareNumber  = regexp.MustCompile(`^[0-9]+$`)
)

func (c *command) rollback() *cobra.Command {
	var f watchFlags
	cmd := &cobra.Command{
		Use:   "rollback [app] [release]",
		Short: "Go back to the release that served before, or to the one named",
		Long: `Go back to the release that served before, or to the one named: start what of
it does not run any more, then give it all traffic. While its instances are
still warm (keep, blue-green) that takes one change of the route.`,
		Example: `  gapless rollback
  gapless rollback v41
  gapless rollback shop v41`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			args, release, err := splitRelease(args)
			if err != nil {
				return err
			}
			return c.roll(cmd, "rollback", f, args, func(client *api.Client, app string) (gapless.Rollout, error) {
				return client.Rollback(cmd.Context(), app, release)
			})
		},
	}
	f.add(cmd)
	return cmd
}

// splitRelease takes the release from the end of the arguments: v and a number.
func splitRelease(args []string) (rest []string, release string, err error) {
	if len(args) > 0 && releaseName.MatchString(args[len(args)-1]) {
		return args[:len(args)-1], args[len(args)-1], nil
	}
	if n := len(args); n > 0 && bareNumber.MatchString(args[n-1]) {
		return nil, "", gapless.Errorf(gapless.Invalid, "%q is not a release", args[n-1]).WithHint("did you mean v%s?", args[n-1])
	}
	if len(args) == 2 {
		return nil, "", gapless.Errorf(gapless.Invalid, "%q is not a release", args[1]).
			WithHint("releases are called v1, v2, …; list them with: gapless releases %s", args[0])
	}
	return args, "", nil
}
