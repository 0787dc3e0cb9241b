//go:build race

package sim

// schedules is smaller where every memory access is checked.
const schedules = 60
