// Package xconnect lets the HTTP/2 servers of this process take extended
// CONNECT (RFC 8441), on which WebSockets run over HTTP/2. net/http and
// golang.org/x/net/http2 have no other switch for it than http2xconnect=1 in
// GODEBUG, and look at it once, when they are initialised.
//
// Go initialises a package as soon as all that it imports is, the first by
// import path if there are several. This one imports nothing that those two do
// not need as well, and its path sorts before theirs: so it comes before them.
package xconnect

import (
	"os"
	"strings"
)

const variable = "GODEBUG"

var (
	before  string // what GODEBUG was
	was     bool   // there was one
	changed bool
)

// An operator who names the setting has decided: http2xconnect=0 keeps
// WebSockets on HTTP/1.1.
func init() {
	before, was = os.LookupEnv(variable)
	if strings.Contains(before, "http2xconnect=") {
		return
	}
	value := "http2xconnect=1"
	if before != "" {
		value = before + "," + value
	}
	changed = os.Setenv(variable, value) == nil
}

// Restore gives GODEBUG back the value that it had, for the processes that
// this one starts. It is called by a package that imports both libraries, from
// its init.
func Restore() {
	switch {
	case !changed:
	case was:
		os.Setenv(variable, before)
	default:
		os.Unsetenv(variable)
	}
	changed = false
}
