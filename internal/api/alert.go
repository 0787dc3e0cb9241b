package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"

	"gapless"
)

// AlertService is the part of Service that is about alerts from outside.
type AlertService interface {
	// HearAlerts takes what Alertmanager sends.
	HearAlerts(ctx context.Context, w gapless.AlertWebhook) (Heard, error)
	// Alerts lists those that fire.
	Alerts(ctx context.Context) ([]gapless.Alert, error)
	// ClearAlert keeps an alert from blocking deploys, until it fires anew.
	ClearAlert(ctx context.Context, id string) (gapless.Alert, error)
}

// Heard says what became of a webhook.
type Heard struct {
	Heard   int `json:"heard"`   // alerts that name an app
	Unknown int `json:"unknown"` // alerts that name none
}

// maxWebhook bounds what an outside sender posts, in bytes.
const maxWebhook = 1 << 20

// hear is an endpoint for a sender that is not ours: it may send fields that
// are not known, which its later versions have.
func hear[In, Out any](path string, scope gapless.Scope, summary string, f func(*visit, In) (Out, error)) endpoint {
	e := get(path, scope, summary, func(c *visit) (Out, error) {
		var in In
		var none Out
		data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxWebhook))
		if err == nil {
			err = json.Unmarshal(data, &in)
		}
		if large := new(http.MaxBytesError); errors.As(err, &large) {
			return none, gapless.Errorf(gapless.TooLarge, "request body: it is larger than %d MiB", maxWebhook>>20)
		}
		if err != nil {
			return none, badBody(err)
		}
		c.received()
		return f(c, in)
	})
	e.method, e.in = "POST", reflect.TypeFor[In]()
	return e
}

// HearAlerts sends alerts as Alertmanager does.
func (c *Client) HearAlerts(ctx context.Context, w gapless.AlertWebhook) (Heard, error) {
	return call[Heard](ctx, c, "POST", "/alerts", w)
}

// Alerts lists the alerts that fire.
func (c *Client) Alerts(ctx context.Context) ([]gapless.Alert, error) {
	return call[[]gapless.Alert](ctx, c, "GET", "/alerts", nil)
}

// ClearAlert keeps an alert from blocking deploys.
func (c *Client) ClearAlert(ctx context.Context, id string) (gapless.Alert, error) {
	return call[gapless.Alert](ctx, c, "DELETE", "/alerts/"+url.PathEscape(id), nil)
}
