// Package keeper is the process that holds what must not be lost when
// everything else dies or is replaced: listening sockets, running instances,
// the read ends of their log pipes, exit codes, and a few small blobs. It
// restarts the daemon and the newest edge at once, and decides nothing else.
//
// It must stay small and boring: standard library and x/sys only, no
// knowledge of apps, releases or routes, almost no memory while idle. The
// daemon and the edges talk to it through Client; docs/keeper-protocol.md
// describes the wire. ReadLogs reads the log files that it writes.
package keeper
