//go:build !linux

package keeper

import "syscall"

// peeker cannot look into pipes on this system: it reads plainly.
type peeker struct{ peeked bool }

func (b *buffers) peeker() *peeker { return &peeker{} }

func (b *buffers) done(*peeker) {}

func (p *peeker) read(fd int, buf []byte) (int, error) { return syscall.Read(fd, buf) }

func take(int, []byte) error { return nil }
