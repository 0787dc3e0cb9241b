package gapless

import (
	"fmt"
	"time"
)

// Caller is who asked for something, as far as the system vouches for it.
type Caller struct {
	User  string `json:"user,omitempty"`  // over the unix socket: the name of that account
	UID   *int   `json:"uid,omitempty"`   // over the unix socket: its number, told by the kernel
	Token string `json:"token,omitempty"` // over the network: the token's name
	Peer  string `json:"peer,omitempty"`  // over the network: the address
}

// String is how people read it: "alice", "uid 1000", "token ci (10.0.0.7)".
func (c Caller) String() string {
	switch {
	case c.Token != "" && c.Peer != "":
		return fmt.Sprintf("token %s (%s)", c.Token, c.Peer)
	case c.Token != "":
		return "token " + c.Token
	case c.User != "":
		return c.User
	case c.UID != nil:
		return fmt.Sprintf("uid %d", *c.UID)
	}
	return "unknown"
}

// Act is one change that somebody asked for: an entry of the audit.
type Act struct {
	Seq  int64     `json:"seq"`
	Time time.Time `json:"time"`
	Caller
	Verb    string `json:"verb"` // "deploy", "rollback", "token.create", …
	App     string `json:"app,omitempty"`
	Rollout string `json:"rollout,omitempty"` // that it began or changed
	Detail  string `json:"detail,omitempty"`  // what of it, never a value of the environment
	Outcome string `json:"outcome"`           // "ok", or the code of the error
	Message string `json:"message,omitempty"` // the error
}

// ActOK is the outcome of what was not refused and did not fail.
const ActOK = "ok"
