package api

import "context"

// NotifyService is the part of Service that is about who is told what happens.
type NotifyService interface {
	// TestNotify sends one message to each target of an app and says what each answered.
	TestNotify(ctx context.Context, app string) ([]NotifyAnswer, error)
}

// NotifyAnswer is what one target answered. It holds no secret: an address is
// as it is written in gapless.yaml.
type NotifyAnswer struct {
	Target string   `json:"target"`
	Events []string `json:"events"` // that it is told of
	OK     bool     `json:"ok"`
	Status int      `json:"status,omitempty"` // of HTTP
	Answer string   `json:"answer"`           // for people
	Hint   string   `json:"hint,omitempty"`
}

// TestNotify sends one message to each target of an app.
func (c *Client) TestNotify(ctx context.Context, app string) ([]NotifyAnswer, error) {
	return call[[]NotifyAnswer](ctx, c, "POST", appPath(app, "notify/test"), nil)
}
