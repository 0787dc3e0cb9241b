package gapless

import (
	"encoding/base64"
	"time"
)

// Sessions keep a client at the release that it was given first, by a signed
// cookie. At least one of Sticky and Skew is set.
type Sessions struct {
	Sticky bool     `json:"sticky,omitempty"` // the coin is tossed once per session, not per request
	Skew   bool     `json:"skew,omitempty"`   // what a page loads comes from the release that the page came from
	TTL    Duration `json:"ttl"`              // since the release was given; then the cookie means nothing any more
	Coin   string   `json:"coin,omitempty"`   // names the coin: what another one decided is no evidence, and with Sticky alone does not hold
	Kept   string   `json:"kept,omitempty"`   // release without weight whose pages may still load from it
}

// MatchRule sends requests to a release without a coin. All that is set must
// hold. Such requests are not evidence.
type MatchRule struct {
	Header  string `json:"header,omitempty"`  // name; without case
	Value   string `json:"value,omitempty"`   // of Header, exactly
	Cookie  string `json:"cookie,omitempty"`  // name; the first one that the client sends counts
	Content string `json:"content,omitempty"` // of Cookie, exactly
	Release string `json:"release,omitempty"` // in a route; in an App it is the candidate
}

// SessionTTL is how long a session lasts where nothing else is said.
const SessionTTL = Duration(24 * time.Hour)

// MaxMatch bounds the rules of one route: each is looked at with each request.
const MaxMatch = 16

// SessionKeys sign what clients bring back: the first one signs, all of them
// verify. They are secret, and print as nothing that would show them.
type SessionKeys [][]byte

// SessionKeySize is the length of one key in bytes.
const SessionKeySize = 32

func (k SessionKeys) String() string   { return "[session keys]" }
func (k SessionKeys) GoString() string { return k.String() }

// Text writes one key as base64, for who stores it.
func (k SessionKeys) Text(i int) string { return base64.StdEncoding.EncodeToString(k[i]) }

func (s *Sessions) validate(app string) error {
	switch {
	case s == nil:
		return nil
	case !s.Sticky && !s.Skew:
		return Errorf(Invalid, "route of %s: sessions that are neither sticky nor pinned", app)
	case s.TTL < Duration(time.Second):
		return Errorf(Invalid, "route of %s: sessions of %s are too short", app, s.TTL)
	}
	return nil
}

func (m MatchRule) validate(app string) error {
	switch {
	case m.Header == "" && m.Cookie == "":
		return Errorf(Invalid, "route of %s: a match rule names neither header nor cookie", app)
	case m.Release == "":
		return Errorf(Invalid, "route of %s: a match rule names no release", app)
	}
	return nil
}
