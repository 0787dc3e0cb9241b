package edge

import (
	"errors"
	"strconv"
	"syscall"

	"gapless/internal/edge/h1"
)

// own is an answer of the edge itself: one line of text, and a code for
// machines in X-Gapless-Error. status 0: none.
type own struct {
	status int
	code   string
	text   string
	retry  bool   // say Retry-After: 1
	after  int    // or so many seconds
	page   *page  // instead of text
	to     string // say Location; "": nothing
	hsts   string // say Strict-Transport-Security; "": nothing
}

var (
	noRoute   = own{status: 404, code: "no_route", text: "no app is served at this host and path"}
	notReady  = own{status: 503, code: "not_ready", text: "no instance of this app is ready", retry: true}
	overfull  = own{status: 503, code: "overfull", text: "this app has as many requests in flight as it may", retry: true}
	tooLarge  = own{status: 413, code: "body_too_large", text: errLargeBody.Reason}
	slowHead  = own{status: 408, code: "slow_request", text: "the request head did not arrive in time"}
	headLarge = own{status: 431, code: "head_too_large", text: "the request head is larger than this server accepts"}
	lineLarge = own{status: 414, code: "target_too_long", text: "the request target is longer than this server accepts"}
	httpsOnly = own{status: 400, code: "https_expected", text: "this address speaks https, and the request came by http"}
	tooMany   = own{status: 503, code: "too_many_connections", text: "this server has too many connections", retry: true}
)

// What the public is told names no release, instance or address: the access
// log has them.
const anInstance = "an instance of this app"

// refusedConnection reports whether nobody listens there.
func refusedConnection(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT)
}

func refusedBy(err error) own {
	why := "cannot be reached"
	if refusedConnection(err) {
		why = "refused the connection"
	}
	return own{status: 502, code: "refused", text: anInstance + " " + why, retry: true}
}

func resetBy() own {
	return own{status: 502, code: "reset", text: anInstance + " closed the connection before its answer was complete"}
}

func timeoutOf() own {
	return own{status: 504, code: "timeout", text: anInstance + " did not answer in time"}
}

func malformedBy(r *h1.Refusal) own {
	text := anInstance + " sent a malformed answer"
	if r != nil {
		text += ": " + r.Reason
	}
	return own{status: 502, code: "malformed_answer", text: text}
}

func badRequest(r *h1.Refusal) own {
	code := "bad_request"
	switch r.Status {
	case 408:
		code = "slow_request"
	case 413:
		code = "body_too_large"
	case 431:
		code = "head_too_large"
	case 501, 505, 417:
		code = "not_supported"
	}
	return own{status: r.Status, code: code, text: r.Reason}
}

// reasons are the reason phrases of the statuses above.
func reason(status int) string {
	switch status {
	case 308:
		return "Permanent Redirect"
	case 400:
		return "Bad Request"
	case 404:
		return "Not Found"
	case 408:
		return "Request Timeout"
	case 413:
		return "Content Too Large"
	case 414:
		return "URI Too Long"
	case 417:
		return "Expectation Failed"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	case 505:
		return "HTTP Version Not Supported"
	}
	return "Error"
}

// appendOwn appends a whole HTTP/1.1 answer.
func appendOwn(out []byte, o own, head, close bool) []byte {
	out = append(out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(o.status), 10)
	out = append(out, ' ')
	out = append(out, reason(o.status)...)
	out = append(out, "\r\nContent-Type: "...)
	out = append(out, o.contentType()...)
	out = append(out, "\r\nCache-Control: no-store\r\nX-Gapless-Error: "...)
	out = append(out, o.code...)
	out = append(out, "\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(o.size()), 10)
	if after := o.retryAfter(); after != "" {
		out = append(out, "\r\nRetry-After: "...)
		out = append(out, after...)
	}
	if o.to != "" {
		out = append(out, "\r\nLocation: "...)
		out = append(out, o.to...)
	}
	if o.hsts != "" {
		out = append(out, "\r\n"+hstsName+": "...)
		out = append(out, o.hsts...)
	}
	if close {
		out = append(out, "\r\nConnection: close"...)
	}
	out = append(out, "\r\n\r\n"...)
	switch {
	case head:
	case o.page != nil:
		out = append(out, o.page.body...)
	default:
		out = append(out, o.text...)
		out = append(out, '\n')
	}
	return out
}
