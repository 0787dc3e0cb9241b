// Package edge is the data plane: it takes requests from the listening
// sockets of its host, gives each to a release by a coin of known weight and
// to the least loaded ready instance of it, and lets an instance leave
// without losing one. The core (match, pick, hold, retry, exchange, count) is
// shared by the drivers: a goroutine per HTTP/1.1 connection, and HTTP/2.
//
// It must not decide who serves: the route table says so, whole and at once,
// over the control socket; probes here only take instances out. It opens no
// listening sockets, reads no configuration, and knows no store and no driver.
// The process that holds the sockets runs it (Run); the daemon dials it (Dial).
package edge
