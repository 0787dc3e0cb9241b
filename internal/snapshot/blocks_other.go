//go:build !linux

package snapshot

import "os"

func clone(out, in *os.File) bool { return false }

func nextData(_ *os.File, at, size int64) (from, to int64, err error) { return at, size, nil }
