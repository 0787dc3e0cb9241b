//go:build !linux

package edge

// loop, loopPool and door are of Linux; elsewhere goroutines serve everything.
type (
	loop     struct{}
	loopSide struct{ recall func() }
	door     struct{}
)

func (e *Edge) startLoops() error         { return nil }
func (e *Edge) stopLoops()                {}
func (e *Edge) openDoors(*listener) bool  { return false }
func (e *Edge) prepareForLoops(*instance) {}
func (c *conn) giveBack() bool            { return false }
