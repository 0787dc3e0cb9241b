//go:build !race

package sim

// schedules is how many a normal test run plays.
const schedules = 1000
