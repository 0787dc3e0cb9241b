//go:build nextversion

package keeper

// Protocol of the version after this one; see next_linux.go.
const Protocol = 4
