// Package snapshot makes releases concrete: it copies a directory into an
// immutable tree (Take), finds out how a command of it is really started,
// without a package manager in between (Resolve, Expand), and which node it
// needs (DetectNode). It must not install, start or remember anything; the
// daemon calls it once per release and keeps the answers.
package snapshot
