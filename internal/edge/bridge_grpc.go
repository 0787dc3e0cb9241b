package edge

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2"
)

// gRPC servers reset a stream when the call's own deadline has passed, at the
// moment at which the client gives up, too. That is no failure of the
// instance: if its reset is here first, the client is told what happened.

const outOfTime = "4" // DEADLINE_EXCEEDED

// deadline returns when a gRPC call is to be over, zero if it does not say.
func deadline(h http.Header, now time.Time) time.Time {
	s := h.Get("Grpc-Timeout")
	if len(s) < 2 || len(s) > 9 {
		return time.Time{}
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	unit := map[byte]time.Duration{'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond}[s[len(s)-1]]
	if err != nil || unit == 0 || n > uint64(100*time.Hour/unit) {
		return time.Time{}
	}
	return now.Add(time.Duration(n) * unit)
}

// ranOut reports whether err is the reset of a call whose time is over.
func (b *bridge) ranOut(err error) bool {
	se := http2.StreamError{}
	return errors.As(err, &se) && se.Code == http2.ErrCodeCancel && !b.due.IsZero() && !time.Now().Before(b.due.Add(-5*time.Millisecond))
}
