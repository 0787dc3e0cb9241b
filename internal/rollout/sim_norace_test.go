//go:build !race

package rollout

// simStories is how many random schedules a normal test run plays.
const simStories = 100000
