package api

import (
	"context"

	"gapless"
)

// TrafficService is the part of Service that keeps an app's traffic waiting or
// away, whatever its rollouts do. A call returns when every edge does so.
type TrafficService interface {
	// Hold lets new requests wait, up to the app's hold; Unhold lets them go on.
	Hold(ctx context.Context, app string) (Traffic, error)
	Unhold(ctx context.Context, app string) (Traffic, error)
	// StartMaintenance answers requests with 503 and a page; EndMaintenance undoes it.
	StartMaintenance(ctx context.Context, app string, req gapless.Maintenance) (Traffic, error)
	EndMaintenance(ctx context.Context, app string) (Traffic, error)
}

// Traffic is what a person did to the traffic of an app.
type Traffic struct {
	App         string             `json:"app"`
	Held        bool               `json:"held"`
	Maintenance *MaintenanceStatus `json:"maintenance,omitempty"` // nil: the app is open
}

// MaintenanceStatus is a gapless.Maintenance without its page.
type MaintenanceStatus struct {
	Since      string           `json:"since"`
	Page       int              `json:"page"` // bytes
	Allow      []string         `json:"allow,omitempty"`
	RetryAfter gapless.Duration `json:"retry_after,omitempty"`
}

// Hold lets the new requests of an app wait.
func (c *Client) Hold(ctx context.Context, app string) (Traffic, error) {
	return call[Traffic](ctx, c, "PUT", appPath(app, "hold"), nil)
}

// Unhold lets them go on.
func (c *Client) Unhold(ctx context.Context, app string) (Traffic, error) {
	return call[Traffic](ctx, c, "DELETE", appPath(app, "hold"), nil)
}

// StartMaintenance answers the requests of an app with 503 and a page.
func (c *Client) StartMaintenance(ctx context.Context, app string, req gapless.Maintenance) (Traffic, error) {
	return call[Traffic](ctx, c, "PUT", appPath(app, "maintenance"), req)
}

// EndMaintenance ends that.
func (c *Client) EndMaintenance(ctx context.Context, app string) (Traffic, error) {
	return call[Traffic](ctx, c, "DELETE", appPath(app, "maintenance"), nil)
}
