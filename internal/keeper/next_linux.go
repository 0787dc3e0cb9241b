//go:build nextversion

package keeper

// This file stands for the next version of gapless: one more op and one more
// field in what keeper hands over. Tests build the binary with and without it
// and let the two work together.

const opBirthday = "birthday"

// next is the field that is added to every process record.
type next struct {
	Colour string `json:"colour,omitempty"`
}

func (k *keeper) next() next { return next{Colour: "green"} }

func (k *keeper) doNext(req request) (result any, known bool, err error) {
	if req.Op != opBirthday {
		return nil, false, nil
	}
	result, err = with(req, func(noArgs) (any, error) { return "today", nil })
	return result, true, err
}
