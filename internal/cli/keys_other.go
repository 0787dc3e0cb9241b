//go:build !linux

package cli

import "os"

// keys are read on Linux only; elsewhere the view has none.
type keys struct{ typed chan byte }

func readKeys(*os.File) *keys { return nil }

func (k *keys) close() {}
