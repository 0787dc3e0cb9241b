package gapless

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Code says what kind of thing went wrong. One table (Status, Exit) maps
// every code to an HTTP status and to an exit code of the command line.
type Code string

const (
	Invalid     Code = "invalid"     // wrong usage, bad config, bad input
	NotFound    Code = "not_found"   // no such app, release, instance, rollout
	Conflict    Code = "conflict"    // not now: something else is under way
	NotAllowed  Code = "not_allowed" // the caller may not do this
	NotStarted  Code = "not_started" // failed before an instance of the new release had started
	RolledBack  Code = "rolled_back" // taken back; the old release serves
	TimedOut    Code = "timed_out"   // --timeout reached; the rollout goes on
	Waiting     Code = "waiting"     // paused for a person
	Changes     Code = "changes"     // plan --detailed-exitcode: a deploy would change something
	Detached    Code = "detached"    // the person left (Ctrl-C); the work goes on
	Unavailable Code = "unavailable" // a needed process or resource does not answer
	Internal    Code = "internal"    // a fault of gapless itself
	Unsupported Code = "unsupported" // this system cannot do it

	// Of the API only.
	NotKnown    Code = "not_known"    // no token, or none that is valid
	TooMany     Code = "too_many"     // more requests than are served
	TooLarge    Code = "too_large"    // a request body over the limit
	WrongMethod Code = "wrong_method" // the path exists, the method does not
)

var codes = map[Code]struct{ status, exit int }{
	Invalid:     {400, 2},
	NotFound:    {404, 2},
	Conflict:    {409, 1},
	NotAllowed:  {403, 4},
	NotStarted:  {422, 1},
	RolledBack:  {422, 3},
	TimedOut:    {504, 5},
	Waiting:     {202, 8},
	Changes:     {200, 10},
	Detached:    {499, 130},
	Unavailable: {503, 1},
	Internal:    {500, 1},
	Unsupported: {501, 1},
	NotKnown:    {401, 4},
	TooMany:     {429, 1},
	TooLarge:    {413, 2},
	WrongMethod: {405, 2},
}

// Codes are all codes, by name.
func Codes() []Code { return slices.Sorted(maps.Keys(codes)) }

// Status is the HTTP status that the API answers with for this code.
func (c Code) Status() int {
	if e, ok := codes[c]; ok {
		return e.status
	}
	return 500
}

// Exit is the exit code of the command line for this code.
func (c Code) Exit() int {
	if e, ok := codes[c]; ok {
		return e.exit
	}
	return 1
}

// Error is the one error type that reaches people: what was tried and why it
// failed (Message, lower case, no full stop), and what to do next (Hint).
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	cause   error
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.cause }

// WithHint returns a copy of e that says what to do next.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// Errorf makes an Error. A %w verb wraps as fmt.Errorf does.
func Errorf(code Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), cause: errors.Unwrap(err)}
}

// CodeOf returns the code of err, Internal for errors of other types, "" for nil.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Code
	}
	return Internal
}

// HintOf returns the first hint found in err's chain, or "".
func HintOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Hint
	}
	return ""
}
