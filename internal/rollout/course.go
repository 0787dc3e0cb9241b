package rollout

import "gapless"

// chart keeps what a new verdict says for those who look back, and tells it
// to those who watch now.
func (d *decision) chart(v gapless.Verdict) {
	r := d.s.Rollout
	r.Course = gapless.Along(r.Course, gapless.MomentOf(v, d.now))
	d.note("", gapless.EventEvidence, "", "%s", v.Reason)
	d.acts[len(d.acts)-1].Event.Verdict = &v
}
