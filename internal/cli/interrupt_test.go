package cli

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
)

// TestHangupIsIgnored leaves a command alone that was started by nohup.
func TestHangupIsIgnored(t *testing.T) {
	if !signal.Ignored(syscall.SIGHUP) && !slices.Contains(interrupts(), os.Signal(syscall.SIGHUP)) {
		t.Error("a command outlives its terminal although nobody asked for it")
	}
	if !signal.Ignored(syscall.SIGHUP) {
		defer signal.Reset(syscall.SIGHUP)
	}
	signal.Ignore(syscall.SIGHUP)
	if slices.Contains(interrupts(), os.Signal(syscall.SIGHUP)) {
		t.Error("nohup is defeated")
	}
}
