// Package judge says whether a candidate release is worse than the stable
// one: tallies go in, a gapless.Verdict comes out. Its tests may be looked at
// after every request, at any weight, without raising the false-alarm rate.
//
// It is pure: no I/O, no clock, no goroutine, and all of its state is a plain
// value that can be written down and read back. It decides nothing about a
// rollout; the rollout engine calls it and acts.
package judge
