package api

import (
	"context"

	"gapless"
)

// MetricService asks outside sources once.
type MetricService interface {
	// CheckMetrics asks each metric of an app once, for stable and for the
	// candidate, as their releases say.
	CheckMetrics(ctx context.Context, app string) ([]MetricReading, error)
	// TryMetrics asks metrics that no release has yet.
	TryMetrics(ctx context.Context, app string, req MetricRequest) ([]MetricReading, error)
}

// MetricRequest names metrics as gapless.yaml has them.
type MetricRequest struct {
	Metrics []gapless.Metric `json:"metrics"`
}

// MetricReading is what a source answered about one release.
type MetricReading struct {
	Metric string `json:"metric"`
	Source string `json:"source"` // prometheus, datadog, cloudwatch
	Role   string `json:"role"`   // stable or candidate
	gapless.Reading
	State   gapless.MetricState `json:"state"`             // what a check of it would mean
	Meaning string              `json:"meaning,omitempty"` // of State, for people
	Reached bool                `json:"reached,omitempty"` // kind error: the source itself answers, it is the query that is wrong
}

// CheckMetrics asks each metric of an app once.
func (c *Client) CheckMetrics(ctx context.Context, app string) ([]MetricReading, error) {
	return call[[]MetricReading](ctx, c, "GET", appPath(app, "metrics"), nil)
}

// TryMetrics asks metrics that no release has yet.
func (c *Client) TryMetrics(ctx context.Context, app string, req MetricRequest) ([]MetricReading, error) {
	return call[[]MetricReading](ctx, c, "POST", appPath(app, "metrics"), req)
}
