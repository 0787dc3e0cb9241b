//go:build !nextversion

package keeper

// next is what a version after this one would add; see next_linux.go.
type next struct{}

func (k *keeper) next() next { return next{} }

func (k *keeper) doNext(request) (result any, known bool, err error) { return nil, false, nil }
