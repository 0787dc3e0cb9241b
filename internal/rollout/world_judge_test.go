package rollout

import (
	"maps"
	"strconv"
	"strings"
	"time"

	"gapless"
	"gapless/internal/judge"
)

// eager is the production judge with less patience, so that stories of seconds
// see what takes minutes: few good answers prove. It allows more with each of
// them, less again after a bad one, and learns limits of age at every look.
type eager struct {
	J     judge.Judge              `json:"j"`
	Good  uint64                   `json:"good"`
	Bad   uint64                   `json:"bad"`
	Looks uint64                   `json:"looks"`
	Paced map[string]gapless.Paces `json:"paced,omitempty"` // per release and weight
}

func (e eager) Observe(batch []gapless.Tally) eager {
	e.J, e.Paced = e.J.Observe(batch), maps.Clone(e.Paced)
	for _, t := range batch {
		if t.Release == e.J.Config.Candidate {
			e.Good, e.Bad = e.Good+t.Requests-min(t.Bad, t.Requests), e.Bad+t.Bad
		}
		if t.Paces != (gapless.Paces{}) {
			if e.Paced == nil {
				e.Paced = map[string]gapless.Paces{}
			}
			e.Paced[armKey(t)] = e.Paced[armKey(t)].Plus(t.Paces)
		}
	}
	return e
}

// armKey names what a tally is of.
func armKey(t gapless.Tally) string {
	return t.Release + "/" + strconv.FormatFloat(t.Weight, 'g', -1, 64)
}

func (e eager) Equal(o eager) bool {
	return e.J.Equal(o.J) && e.Good == o.Good && e.Bad == o.Bad && e.Looks == o.Looks && maps.Equal(e.Paced, o.Paced)
}

// enoughGood is how many good answers prove.
const enoughGood = 15

func (e eager) Verdict(weight float64) gapless.Verdict {
	v := e.J.Verdict(weight)
	if v.Kind == gapless.Worse {
		return v
	}
	v.Kind = gapless.Undecided
	if e.Good >= enoughGood && e.Good > 10*e.Bad {
		v.Kind, v.Reason = gapless.NotWorse, "eager: enough good answers"
	}
	v.Share = 0.1
	for _, step := range [][2]float64{{2, 0.25}, {6, 0.5}} {
		if float64(e.Good) >= step[0]+10*float64(e.Bad) {
			v.Share = step[1]
		}
	}
	return v
}

func (e eager) Learn(gapless.LatencyLook) eager {
	e.Looks++
	return e
}

func (e eager) Limits() gapless.LatencyLimits {
	l := gapless.LatencyLimits{Version: e.Looks, Candidate: e.J.Config.Candidate, Stable: e.J.Config.Stable}
	for i := range gapless.Quantiles {
		l.Quantile[i] = time.Duration(e.Looks)
		l.Worse[i], l.Margin[i] = l.Quantile[i], l.Quantile[i]
	}
	return l
}

// judgeOf is the judge of a rollout in this world.
func (w *world) judgeOf(from string, to *gapless.Release) Judge {
	j := judgeOf(from, to, w.record(from))
	if b, ok := j.(bench[judge.Judge]); ok && w.eager {
		return JudgeBy(eager{J: b.j})
	}
	return j
}

func (e eager) Watch() eager { return eager{J: e.J.Watch()} }

// hasty gives the world judges that prove quickly.
func (w *world) hasty() {
	w.eager, w.readJudge = true, ReadJudge[eager]
	w.runner.ReadJudge = w.readJudge
}

// Look implements Looker.
func (w *world) Look(_, stable, candidate string) gapless.LatencyLook {
	w.die()
	if s := w.runner.state; !s.judges() || stable != s.Rollout.From || candidate != s.Rollout.To {
		w.violate("somebody looks at the latencies of %s and %s", stable, candidate)
	}
	return gapless.LatencyLook{At: w.clock()}
}

// Pace implements Pacer.
func (w *world) Pace(_ string, limits gapless.LatencyLimits) {
	w.die()
	var want gapless.LatencyLimits
	if saved := w.saved; saved.judges() {
		if l, ok := saved.Judge.(Learner); ok {
			want = l.Limits()
		}
	}
	if limits != want {
		w.violate("limits of age %d are given out, those of what is saved are %d", limits.Version, want.Version)
	}
	if limits.Version > 0 {
		w.tally["paced"]++
	}
	w.limits = limits
}

// mayRamp checks that a ramp gives the candidate no more than its judge allows.
func (w *world) mayRamp(s State, r *gapless.Route, healthy map[string]int) {
	if healthy[s.Stable] == 0 || current(s).Kind != gapless.StepRamp || s.Back || s.Paused && !s.asked() || s.Rollout.To == s.Stable {
		return
	}
	v := s.Rollout.Verdict
	if v == nil && s.Judge != nil {
		first := s.Judge.Verdict(0)
		v = &first
	}
	allowed := rungs[0]
	if v != nil && v.Share > 0 {
		allowed = v.Share
	}
	if share := r.Share(s.Rollout.To); share > allowed+1e-9 && (v == nil || v.Kind != gapless.NotWorse) {
		w.violate("the ramp gives %s %v, its judge allows %v", s.Rollout.To, share, allowed)
	}
}

// climbed checks that a ramp goes on only from what every edge serves.
func (w *world) climbed(was, is State) {
	r := was.Rollout
	if current(was).Kind != gapless.StepRamp || current(is).Kind != gapless.StepRamp || is.Rollout.Cursor != r.Cursor || is.Weight <= was.Weight+1e-9 || !w.now.Equal(w.servedAt) {
		return
	}
	w.tally["climbed"]++
	for i, table := range w.tables {
		if table == nil || table.Share(r.To) != was.Weight {
			w.violate("the share goes up from %v to %v, and edge %d serves %s", was.Weight, is.Weight, i, describe(table))
			return
		}
	}
}

// pacesCounted compares the judge with its cursor, as counted does, by how
// long requests took.
func (w *world) pacesCounted(s State) {
	b, ok := s.Judge.(bench[eager])
	if !ok {
		return
	}
	told := 0
	for key := range s.Cursor {
		if strings.HasPrefix(key, total) && s.Cursor.at(key).paces != (gapless.Paces{}) {
			told++
		}
	}
	for key, got := range b.j.Paced {
		if want := s.Cursor.at(total + key).paces; got != want {
			w.violate("of %s it was told how long requests took, %v, and counted is %v", key, want, got)
		}
	}
	if told != len(b.j.Paced) {
		w.violate("how long requests took was told of %d and is counted of %d", told, len(b.j.Paced))
	}
}
