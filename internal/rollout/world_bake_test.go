package rollout

import (
	"strings"

	"gapless"
	"gapless/internal/judge"
)

// sour lets a release that was good, and promoted for it, give bad answers.
func (w *world) sour(release string) {
	w.log("%s turns sour", release)
	w.temper[release] = sloppy
}

// watchOf is what the judge of a watch saw.
func watchOf(b *Bake) *judge.Watch {
	switch j := b.Judge.(type) {
	case bench[eager]:
		return j.j.J.Watching
	case bench[judge.Judge]:
		return j.j.Watching
	}
	return nil
}

// answersTold is how many answers of a release were told up to a cursor.
func answersTold(c Cursor, release string) (n uint64) {
	for key := range c {
		if strings.HasPrefix(key, total+release+"/") {
			n += c.at(key).requests
		}
	}
	return n
}

// baked checks the watch over what was promoted: it has seen every answer
// once; what is proven bad goes back while the old set is warm.
func (w *world) baked(was, is State) {
	b := is.Bake
	if b == nil {
		return
	}
	watch := watchOf(b)
	if watch == nil {
		w.violate("%s is watched by nobody", b.Release)
		return
	}
	if was.Bake == nil || was.Bake.Rollout != b.Rollout || b.Cursor == nil || was.Bake.Cursor == nil {
		w.bakedFrom[b.Rollout] = answersTold(b.Cursor, b.Release) - watch.All.Requests
		w.tally["watched after promote"]++
	}
	if told := answersTold(b.Cursor, b.Release) - w.bakedFrom[b.Rollout]; b.Cursor != nil && told != watch.All.Requests {
		w.violate("%d answers of %s were told since it was promoted, %d are counted", told, b.Release, watch.All.Requests)
	}
	if was.Bake == nil || w.lost || w.unsaved || is.Busy() || is.Down || w.blind || was.Busy() {
		return
	}
	kept := 0
	for _, m := range was.of(Kept, gapless.WebProcess) {
		if lookUp(w.looked, m.ID).State == gapless.Ready && !w.unwell[m.ID] {
			kept++
		}
	}
	if v := was.Bake.Judge.Observe(w.tallies).Verdict(1); kept > 0 && v.Kind == gapless.Worse && was.Bake.Cursor != nil {
		w.violate("%s is proven bad after it was promoted, and stays although %s is warm: %s", b.Release, b.Before, v.Reason)
	}
}
