package cli

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"gapless/internal/api"
)

func (c *command) api() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "api",
		Short: "Show or change how the API is reached over the network",
		Long: `Show how the API is reached over the network: not at all, unless it was enabled.
On the machine itself it is a unix socket for the user that gapless runs as.

Elsewhere, gapless talks to it with these variables:
  GAPLESS_HOST=https://host:port
  GAPLESS_TOKEN=…                  from gapless token create
  GAPLESS_FINGERPRINT=sha256:…     trust this one certificate, or
  GAPLESS_CA=file                  trust certificates that this one vouches for`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			n, err := client.Network(cmd.Context())
			if err != nil {
				return err
			}
			return c.network(n)
		},
	}
	cmd.AddCommand(c.apiEnable(), c.apiDisable())
	return cmd
}

func (c *command) apiEnable() *cobra.Command {
	var req api.NetworkRequest
	cmd := &cobra.Command{
		Use:   "enable --listen HOST:PORT [--cert FILE --key FILE]",
		Short: "Serve the API over the network, with TLS and tokens",
		Long: `Serve the API over the network, also after the daemon or the machine was started
again. Without a certificate gapless signs one itself and prints its
fingerprint, which clients pin. A certificate that is given is read again when
its file changes.`,
		Example: `  gapless api enable --listen 127.0.0.1:9443
  gapless api enable --listen :9443 --cert /etc/ssl/host.pem --key /etc/ssl/host.key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, file := range []*string{&req.Cert, &req.Key} {
				if *file == "" {
					continue
				}
				abs, err := filepath.Abs(*file)
				if err != nil {
					return err
				}
				*file = abs
			}
			client, err := c.client()
			if err != nil {
				return err
			}
			n, err := client.SetNetwork(cmd.Context(), req)
			if err != nil {
				return err
			}
			return c.network(n)
		},
	}
	f := cmd.Flags()
	f.StringVar(&req.Listen, "listen", "", "address, such as 127.0.0.1:9443")
	f.StringVar(&req.Cert, "cert", "", "file of the certificate, PEM")
	f.StringVar(&req.Key, "key", "", "file of its key, PEM")
	_ = cmd.MarkFlagRequired("listen") // it exists: the lines above
	return cmd
}

func (c *command) apiDisable() *cobra.Command {
	return &cobra.Command{
		Use:   "disable",
		Short: "Serve the API on the unix socket only",
		Long: `Serve the API on the unix socket only, from now on and after a restart. Tokens
stay, and are valid again when it is enabled again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			if err := client.CloseNetwork(cmd.Context()); err != nil {
				return err
			}
			return c.network(api.Network{})
		},
	}
}

func (c *command) network(n api.Network) error {
	if c.json {
		return c.term.json(n)
	}
	t := c.term
	switch {
	case n.Listen == "":
		t.answerf("the API is on the unix socket only")
		t.hintf("serve it over the network: gapless api enable --listen 127.0.0.1:9443")
		return nil
	case n.Problem != "":
		t.answerf("%s the API should be served on https://%s, and is not: %s", bad.Render("✗"), n.Listen, n.Problem)
		return nil
	}
	t.answerf("%s the API is served on https://%s", good.Render("✓"), n.Listen)
	t.answerf("  certificate  %s", n.Cert)
	t.answerf("  fingerprint  %s", n.Fingerprint)
	t.hintf("from elsewhere: GAPLESS_HOST=https://%s GAPLESS_FINGERPRINT=%s GAPLESS_TOKEN=… gapless status", n.Listen, n.Fingerprint)
	return nil
}
