//go:build !nextversion

package edge

// next is what a version after this one would add to every message; see next.go.
type next struct{}

func nextFields() next { return next{} }
