// Package snapshot makes releases concrete: it copies a directory into an
// immutable tree that shares what it can with other releases (Take, Seal),
// installs the dependencies that a lockfile lists (Install), finds out how a
// command of the tree is really started, without a package manager in between
// (Resolve, Expand), and which node it needs (DetectNode). It must not start
// an app or know which releases there are; the daemon calls it once per
// release and keeps the answers.
package snapshot
