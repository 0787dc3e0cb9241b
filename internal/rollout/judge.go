package rollout

import (
	"bytes"
	"encoding/json"
	"errors"

	"gapless"
)

// Judge says what was seen of a candidate and what follows from it. It is a
// plain value: Observe returns another one. State carries it as JSON that the
// engine does not look into, so that a better judge takes the place of this
// one without a change here.
type Judge interface {
	// Observe adds what was counted since the batch before.
	Observe(batch []gapless.Tally) Judge
	// Verdict judges all that was observed; weight is the candidate's share now, 0…1.
	Verdict(weight float64) gapless.Verdict
	// Equal reports whether the other one has seen the same, so that nothing has to be saved.
	Equal(other Judge) bool

	json.Marshaler
}

// Judging is what a Judge is made of: any value that JSON carries and that has
// these methods. Who writes one needs to know nothing of this package.
type Judging[J any] interface {
	Observe(batch []gapless.Tally) J
	Verdict(weight float64) gapless.Verdict
	Equal(other J) bool
}

// JudgeBy makes a Judge of a value.
func JudgeBy[J Judging[J]](j J) Judge { return bench[J]{j} }

// ReadJudge makes a Judge of what was saved of one; it is what Runner.ReadJudge
// is to be for judges of that kind.
func ReadJudge[J Judging[J]](data []byte) (Judge, error) {
	var j J
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, err
	}
	return bench[J]{j}, nil
}

type bench[J Judging[J]] struct{ j J }

func (b bench[J]) Observe(batch []gapless.Tally) Judge    { return bench[J]{b.j.Observe(batch)} }
func (b bench[J]) Verdict(weight float64) gapless.Verdict { return b.j.Verdict(weight) }
func (b bench[J]) MarshalJSON() ([]byte, error)           { return json.Marshal(b.j) }

func (b bench[J]) Equal(other Judge) bool {
	o, ok := other.(bench[J])
	return ok && b.j.Equal(o.j)
}

// sealed is a judge as it was read from the disk, until somebody who knows its
// kind reads it. One that nobody can read stays as it is and has seen nothing:
// that is never a pass.
type sealed []byte

func (s sealed) Observe([]gapless.Tally) Judge { return s }

func (s sealed) Verdict(weight float64) gapless.Verdict {
	return gapless.Verdict{Kind: gapless.Undecided, NoData: true, Evidence: gapless.Figures{Weight: weight},
		Reason: "no data: what was seen before cannot be read by this version"}
}

func (s sealed) Equal(other Judge) bool {
	o, ok := other.(sealed)
	return ok && bytes.Equal(s, o)
}

func (s sealed) MarshalJSON() ([]byte, error) { return s, nil }

// UnmarshalJSON reads a state; its judge stays sealed until a runner has it.
func (s *State) UnmarshalJSON(data []byte) error {
	type plain State // without this method
	read := struct {
		*plain
		Judge json.RawMessage `json:"judge"`
	}{plain: (*plain)(s)}
	if err := json.Unmarshal(data, &read); err != nil {
		return err
	}
	s.Judge = seal(read.Judge)
	return nil
}

func seal(data json.RawMessage) Judge {
	if len(data) == 0 || string(data) == "null" {
		return nil
	}
	return sealed(data)
}

// unseal reads the judge of a state that was read from the disk.
func (s *State) unseal(read func([]byte) (Judge, error)) error {
	err := unseal(&s.Judge, read)
	if s.Bake != nil {
		err = errors.Join(err, unseal(&s.Bake.Judge, read))
	}
	return err
}

func unseal(judge *Judge, read func([]byte) (Judge, error)) error {
	data, ok := (*judge).(sealed)
	if !ok || read == nil {
		return nil
	}
	j, err := read(data)
	if err == nil {
		*judge = j
	}
	return err
}
