package load

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// Kind is a kind of traffic of a Mix.
type Kind string

const (
	KeepAlive Kind = "keep-alive"
	Fresh     Kind = "fresh"
	Slow      Kind = "slow"
	Upload    Kind = "upload"
	WebSocket Kind = "websocket"
	SSE       Kind = "sse"
	H2C       Kind = "h2c"
	Path      Kind = "path"
)

// kinds in the order of reports.
var kinds = [...]Kind{KeepAlive, Fresh, Slow, Upload, WebSocket, SSE, H2C, Path}

// long reports whether samples of the kind last long enough to be kept even
// when they are OK: drains must overlap them.
func (k Kind) long() bool { return k == Slow || k == Upload || k == WebSocket || k == SSE }

// Sample is one finished request, WebSocket or event stream.
type Sample struct {
	Kind     Kind          `json:"kind"`
	Due      time.Time     `json:"due"`   // when it was to start by the schedule
	Start    time.Time     `json:"start"` // when it started
	End      time.Time     `json:"end"`
	Latency  time.Duration `json:"latency_ns"` // from Due to End; WebSocket and SSE: to the head of the answer
	Instance string        `json:"instance,omitempty"`
	Release  string        `json:"release,omitempty"`
	Status   int           `json:"status,omitempty"`     // HTTP status; 101 for a WebSocket
	Code     int           `json:"code,omitempty"`       // WebSocket: close code; 1006 without a close frame
	Bytes    int64         `json:"bytes"`                // of the answer's body; upload: sent; WebSocket: of the echoes
	Messages int           `json:"messages,omitempty"`   // WebSocket: echoes; SSE: events
	Unheard  int           `json:"unanswered,omitempty"` // WebSocket: messages without an echo when it was closed with 1001
	Err      string        `json:"err,omitempty"`        // class; "" means OK
	Detail   string        `json:"detail,omitempty"`     // of Err, for people
}

// Classes of failed samples. Others are "status_503" (any status that is not
// the expected one) and "ws_1006" (a WebSocket's close code other than 1001;
// 1006 stands for an end without a close frame, reset or not).
const (
	Refused      = "refused"       // the connection was refused
	Reset        = "reset"         // the connection was reset, before or within the answer
	Closed       = "closed"        // the connection was closed after the request was sent, without an answer
	Hang         = "hang"          // no whole answer in time
	Truncated    = "truncated"     // the answer ended too early
	Malformed    = "malformed"     // the answer is not HTTP, or not framed
	WrongBody    = "wrong_body"    // a whole answer that is not what was asked for
	WrongRelease = "wrong_release" // a release answered that was not allowed
	Local        = "local"         // this machine could not send it (no ports, no descriptors)
)

// Dropped reports whether the class means that there was no valid answer at
// all; the other classes are bad answers.
func Dropped(class string) bool {
	switch {
	case class == "", class == WrongBody, class == WrongRelease, strings.HasPrefix(class, "status_"):
		return false
	}
	return true
}

// failure is an error that knows its class.
type failure struct {
	class string
	code  int // WebSocket close code
	cause error
}

func (f *failure) Error() string {
	if f.cause == nil {
		return f.class
	}
	return f.cause.Error()
}

func (f *failure) Unwrap() error { return f.cause }

func failf(class, format string, args ...any) error {
	return &failure{class: class, cause: fmt.Errorf(format, args...)}
}

func badStatus(status int) error {
	return failf(fmt.Sprintf("status_%d", status), "status %d", status)
}

// classOf sorts an error of a connection or of a check into its class.
func classOf(err error) string {
	var f *failure
	var n net.Error
	switch {
	case errors.As(err, &f):
		return f.class
	case errors.As(err, &n) && n.Timeout():
		return Hang
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return Reset
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return Local
	case errors.Is(err, io.EOF):
		return Closed
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Truncated
	}
	return Malformed
}
