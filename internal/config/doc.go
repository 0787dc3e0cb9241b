// Package config turns what a person wrote (gapless.yaml, package.json, the
// command line) into one validated gapless.App. Its one job is to be strict
// and helpful: unknown keys are errors, and every problem is reported at once
// with its file, line, caret and a hint. It must not start, copy or resolve
// anything: an empty Process.Run of the web process means "the start script",
// which the release's tree answers later. The command line calls Load; the
// daemon calls Environment when it makes a release.
package config
