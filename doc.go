// Package gapless holds the words of the project: release, instance, route,
// rollout, verdict, and the app and events around them. Types, states,
// validation and error codes only: no I/O, no goroutines, standard library
// only. Every other package speaks in these types.
package gapless
