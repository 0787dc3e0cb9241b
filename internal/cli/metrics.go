package cli

import "github.com/spf13/cobra"

func (c *command) metrics() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "metrics",
		Short: "Print the traffic of all apps as Prometheus reads it",
		Long: `Print what the edges count, of all apps, releases and instances, in the text
format of Prometheus. The API answers the same at /v1/metrics, to tokens of
scope read.`,
		Example: `  gapless metrics
  gapless metrics | grep gapless_responses_total`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := c.client()
			if err != nil {
				return err
			}
			text, err := client.Metrics(cmd.Context())
			if err != nil {
				return err
			}
			return c.term.printf("%s", text)
		},
	}
	cmd.AddCommand(c.metricsCheck())
	return cmd
}
