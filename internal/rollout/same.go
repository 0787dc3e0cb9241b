package rollout

import (
	"bytes"
	"maps"
	"slices"

	"gapless"
)

// same reports whether nothing changed that would have to be saved. It is
// asked at every look, so it goes without reflection; a test holds it against
// the fields.
func (s *State) same(o *State) bool {
	return s.App == o.App && s.Seq == o.Seq && s.Stable == o.Stable && s.Before == o.Before && s.Known == o.Known &&
		s.Since.Equal(o.Since) && s.Entered == o.Entered && s.Weight == o.Weight && s.Auto == o.Auto &&
		s.Back == o.Back && s.Down == o.Down && s.Keep == o.Keep && s.Baking == o.Baking && s.Bake.same(o.Bake) && s.Preview == o.Preview &&
		s.Paused == o.Paused && s.Skip == o.Skip && s.Hook == o.Hook &&
		s.Held == o.Held && sameMaintenance(s.Maintenance, o.Maintenance) &&
		s.Folded.Equal(o.Folded) && s.Learned.Equal(o.Learned) && s.Watched == o.Watched && s.Met == o.Met && s.Alarmed == o.Alarmed && s.Looked.Equal(o.Looked) &&
		slices.Equal(s.Members, o.Members) &&
		sameMap(s.Counts, o.Counts) && sameMap(s.Drained, o.Drained) && sameMap(s.Next, o.Next) && s.Cursor.same(o.Cursor) &&
		s.Shadowed.Equal(o.Shadowed) && (s.Mirrors == nil) == (o.Mirrors == nil) && maps.EqualFunc(s.Mirrors, o.Mirrors, gapless.MirrorCounts.Equal) &&
		sameRollout(s.Rollout, o.Rollout) && sameJudge(s.Judge, o.Judge)
}

func sameRollout(a, b *gapless.Rollout) bool {
	if a == nil || b == nil || a == b {
		return a == b
	}
	return a.ID == b.ID && a.App == b.App && a.Kind == b.Kind && a.From == b.From && a.To == b.To &&
		a.Cursor == b.Cursor && a.Outcome == b.Outcome && a.Reason == b.Reason && a.Hint == b.Hint &&
		a.Started.Equal(b.Started) && a.Finished.Equal(b.Finished) && a.Instance == b.Instance &&
		a.By == b.By && a.Auto == b.Auto && a.Missing == b.Missing && a.Launched == b.Launched && a.Strategy == b.Strategy && a.Waiting == b.Waiting && a.Weight == b.Weight &&
		(a.Verdict == b.Verdict || a.Verdict != nil && b.Verdict != nil && a.Verdict.Equal(*b.Verdict)) &&
		(a.Mirror == b.Mirror || a.Mirror != nil && b.Mirror != nil && a.Mirror.Equal(*b.Mirror)) &&
		slices.Equal(a.Metrics, b.Metrics) && slices.Equal(a.Complaints, b.Complaints) && slices.Equal(a.Failing, b.Failing) && slices.EqualFunc(a.Course, b.Course, gapless.Moment.Equal) && slices.Equal(a.Plan, b.Plan) && slices.Equal(a.LogTail, b.LogTail)
}

func sameMaintenance(a, b *gapless.Maintenance) bool {
	if a == nil || b == nil || a == b {
		return a == b
	}
	return bytes.Equal(a.Page, b.Page) && a.Type == b.Type && slices.Equal(a.Allow, b.Allow) && a.RetryAfter == b.RetryAfter && a.Since == b.Since
}

func sameJudge(a, b Judge) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.Equal(b)
}

// sameMap tells nil from empty: for a cursor these are two things.
func sameMap[V comparable](a, b map[string]V) bool {
	return (a == nil) == (b == nil) && maps.Equal(a, b)
}
