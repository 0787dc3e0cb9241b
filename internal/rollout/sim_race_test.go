//go:build race

package rollout

// simStories is smaller where every memory access is checked.
const simStories = 1000
