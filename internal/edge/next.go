//go:build nextversion

package edge

// This file stands for the next version of gapless: one more field in what
// daemon and edge tell each other. Tests build the binary with and without it
// and let the two work together.
type next struct {
	Colour string `json:"colour,omitempty"`
}

func nextFields() next { return next{Colour: "green"} }
