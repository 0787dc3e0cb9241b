package cli

import (
	"os"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

func (c *command) uninstall() *cobra.Command {
	var s service
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take the systemd unit away; apps and their data stay",
		Long: `Disable and remove the systemd unit that gapless install wrote. It is refused
while an app is up, which would stop with the service. All of GAPLESS_HOME stays.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := s.fill()
			if err != nil {
				return err
			}
			path, err := s.path()
			if err != nil {
				return err
			}
			there, err := ours(path)
			if err != nil {
				return err
			}
			if !there {
				return gapless.Errorf(gapless.NotFound, "there is no %s", path).WithHint("was it installed with --user or another --name?")
			}
			if s.runs() {
				if err := s.idle(cmd); err != nil {
					return err
				}
				if err := s.systemctl(cmd.Context(), "disable", "--now", s.name); err != nil {
					return err
				}
			}
			if err := os.Remove(path); err != nil {
				return gapless.Errorf(gapless.Unavailable, "remove the unit: %w", err).WithHint("remove it by hand; it is disabled already")
			}
			if s.runs() {
				if err := s.systemctl(cmd.Context(), "daemon-reload"); err != nil {
					return err
				}
			}
			if c.json {
				return c.term.json(map[string]string{"service": s.name, "removed": path})
			}
			c.term.answerf("%s removed %s; what is in %s stays", good.Render("✓"), path, s.home)
			return nil
		},
	}
	s.flags(cmd)
	return cmd
}

// idle refuses while apps are up: to stop the service is to stop them.
func (s service) idle(cmd *cobra.Command) error {
	st, err := api.NewClient(s.home.APISocket()).Status(cmd.Context())
	if err != nil && !api.NoDaemon(err) {
		return err
	}
	for _, a := range st.Apps {
		if !a.Down {
			return gapless.Errorf(gapless.Conflict, "%s is up, and would stop with the service", a.Name).WithHint("gapless down --all, then gapless uninstall")
		}
	}
	return nil
}
