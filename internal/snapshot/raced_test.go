//go:build race

package snapshot

const raced = true // the detector costs several times the work
