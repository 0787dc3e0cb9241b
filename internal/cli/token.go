package cli

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
)

func (c *command) token() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke the tokens of the API over the network",
		Long: `Make, list and revoke the tokens by which programs use the API over the network
(see gapless api). A token has one scope: read (look), deploy (also steer
rollouts, restart, scale), admin (everything that the network offers), or alert
(nothing but say which alerts fire; for Alertmanager).`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(c.tokenCreate(), c.tokenList(), c.tokenRevoke())
	return cmd
}

func (c *command) tokenCreate() *cobra.Command {
	var req api.TokenRequest
	var scope, expires string
	cmd := &cobra.Command{
		Use:     "create --name NAME --scope read|deploy|admin|alert [--expires 90d]",
		Short:   "Make a token and print it; it is shown this once",
		Example: `  gapless token create --name ci --scope deploy --expires 90d`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			req.Scope = gapless.Scope(scope)
			if expires != "" {
				d, err := days(expires)
				if err != nil || d <= 0 {
					return gapless.Errorf(gapless.Invalid, "--expires %q is not a time from now", expires).WithHint("write 90d, 12h or 30m")
				}
				req.Expires = gapless.Duration(d)
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			t, err := client.CreateToken(cmd.Context(), req)
			if err != nil {
				return err
			}
			if c.json {
				return c.term.json(t)
			}
			c.term.sayf("token %s has scope %s and %s. Keep it now: it is not shown again", t.Name, t.Scope, expiry(t.Token))
			return c.term.printf("%s\n", t.Secret)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Name, "name", "", "what it is for; shown in the audit")
	f.StringVar(&scope, "scope", string(gapless.ScopeRead), "read, deploy, admin or alert")
	f.StringVar(&expires, "expires", "", "how long it is valid: 90d, 12h (default: until it is revoked)")
	_ = cmd.MarkFlagRequired("name") // it exists: the line above
	return cmd
}

// days reads a duration that may be in days.
func days(text string) (time.Duration, error) {
	if number, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(number, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err
	}
	return time.ParseDuration(text)
}

func expiry(t gapless.Token) string {
	switch {
	case t.Expires.IsZero():
		return "does not expire"
	case t.Expired(time.Now()):
		return "expired " + t.Expires.Local().Format("2006-01-02 15:04")
	}
	return "expires " + t.Expires.Local().Format("2006-01-02 15:04")
}

func (c *command) tokenList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the tokens, without their secrets",
		Long: `List the tokens: name, scope, age, and until when each is valid. Secrets are not
stored, only their hashes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			list, err := client.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			if c.json {
				return c.term.json(list)
			}
			rows := [][]string{{"TOKEN", "SCOPE", "MADE", "VALID"}}
			for _, t := range list {
				rows = append(rows, []string{t.Name, string(t.Scope), age(t.Created) + " ago", expiry(t)})
			}
			c.term.table(rows)
			return nil
		},
	}
}

func (c *command) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke NAME",
		Short:   "Make a token worthless at once",
		Example: `  gapless token revoke ci`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			if err := client.RevokeToken(cmd.Context(), args[0]); err != nil {
				return err
			}
			if c.json {
				return c.term.json(map[string]string{"revoked": args[0]})
			}
			c.term.answerf("%s token %s is revoked", good.Render("✓"), args[0])
			return nil
		},
	}
}
