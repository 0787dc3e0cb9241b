package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gapless/internal/api"
)

func (c *command) certs() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certs",
		Short: "Show the certificates of https, and renew one",
		Long: `Show which certificates https clients are shown: for which host, where it comes
from, until when it is valid, and what is wrong with it. Certificates by ACME
(tls: auto in gapless.yaml) are renewed by themselves after two thirds of
their life; files are read again when they change.`,
		Example: `  gapless certs
  gapless certs renew shop.example.com`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			list, err := client.Certificates(cmd.Context())
			if api.NoDaemon(err) && c.whyNoDaemon(err) == err {
				list, err = nil, nil // nothing runs here
			}
			if err != nil {
				return err
			}
			if c.json {
				if list == nil {
					list = []api.Certificate{}
				}
				return c.term.json(list)
			}
			return c.printCerts(list)
		},
	}
	cmd.AddCommand(c.certsRenew())
	return cmd
}

func (c *command) certsRenew() *cobra.Command {
	return &cobra.Command{
		Use:     "renew HOST",
		Short:   "Get another certificate from the ACME server now",
		Example: `  gapless certs renew shop.example.com`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			cert, err := client.RenewCertificate(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.term.json(cert)
			}
			c.term.answerf("%s: %s", cert.Name, certState(cert, time.Now()))
			return nil
		},
	}
}

func (c *command) printCerts(list []api.Certificate) error {
	if len(list) == 0 {
		c.term.answerf("no app speaks https")
		c.term.hintf("tls: auto in gapless.yaml gets certificates by itself")
		return nil
	}
	rows := [][]string{{"HOST", "APP", "FROM", "STATE"}}
	for _, cert := range list {
		rows = append(rows, []string{cert.Name, strings.Join(cert.Apps, ", "), cert.From, certState(cert, time.Now())})
	}
	c.term.table(rows)
	for _, cert := range list {
		if cert.Problem != "" {
			c.term.answerf("%s: %s", cert.Name, cert.Problem)
			if cert.Hint != "" {
				c.term.hintf("%s", cert.Hint)
			}
		}
	}
	return nil
}

// certState says in a few words how a certificate stands.
func certState(cert api.Certificate, now time.Time) string {
	until := ""
	if !cert.Ends.IsZero() {
		until = fmt.Sprintf("valid until %s (%s)", cert.Ends.Local().Format("2006-01-02 15:04"), ahead(cert.Ends.Sub(now)))
	}
	switch {
	case cert.State == api.CertWaiting:
		return "waiting for the first certificate"
	case cert.State == api.CertProblem && until == "":
		return "problem"
	case cert.State == api.CertProblem:
		return "problem; " + until
	}
	return until
}

// ahead writes how long something is away.
func ahead(d time.Duration) string {
	switch {
	case d <= 0:
		return "over"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// certNotes are lines about an app's certificates for its status.
func certNotes(a api.AppStatus) (out []string) {
	for _, cert := range a.Certificates {
		line := "  certificate " + cert.Name + ": " + certState(cert, time.Now())
		if cert.Problem != "" {
			line += ": " + cert.Problem
		}
		out = append(out, line)
	}
	return out
}

// address is where an app answers as the first part of a URL, and the address
// that it listens on there.
func address(a api.AppStatus) (scheme, listen, port string) {
	if len(a.Listen) == 0 {
		return "", "", ""
	}
	if a.TLS != nil && len(a.TLS.Listen) > 0 {
		return "https://", a.TLS.Listen[0], "443"
	}
	return "http://", a.Listen[0], "80"
}
