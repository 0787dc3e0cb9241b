//go:build !nextversion

package keeper

// Protocol is the version of the wire protocol that this package speaks. It
// grows by one with each new op or request field; see docs/keeper-protocol.md.
const Protocol = 3
