package store

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gapless"
)

func TestAuditIsReadBackAndBounded(t *testing.T) {
	s, _ := open(t)
	ctx := t.Context()
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	uid := 1000
	alice, ci := gapless.Caller{User: "alice", UID: &uid}, gapless.Caller{Token: "ci", Peer: "10.0.0.7"}
	acts := []gapless.Act{
		{Time: begin, Caller: alice, Verb: "deploy", App: "shop", Rollout: "r1", Outcome: "ok"},
		{Time: begin.Add(time.Hour), Caller: ci, Verb: "abort", App: "shop", Rollout: "r1", Outcome: "ok"},
		{Time: begin.Add(2 * time.Hour), Caller: ci, Verb: "deploy", App: "blog", Rollout: "r2", Outcome: "conflict", Message: "not now"},
		{Time: begin.Add(3 * time.Hour), Caller: alice, Verb: "token.revoke", Detail: "ci", Outcome: "ok"},
	}
	for i := range acts {
		if err := s.AddAct(ctx, acts[i]); err != nil {
			t.Fatal(err)
		}
		acts[i].Seq = int64(i + 1)
	}
	for _, c := range []struct {
		app   string
		since time.Time
		seq   int64
		limit int
		want  []gapless.Act
	}{
		{"", time.Time{}, 0, 10, acts},
		{"shop", time.Time{}, 0, 10, acts[:2]},
		{"", begin.Add(90 * time.Minute), 0, 10, acts[2:]},
		{"", time.Time{}, 1, 2, acts[1:3]},
		{"nobody", time.Time{}, 0, 10, nil},
	} {
		have, err := s.Acts(ctx, c.app, c.since, c.seq, c.limit)
		if d := cmp.Diff(c.want, have); err != nil || d != "" {
			t.Errorf("%+v: %v (-want +have)\n%s", c, err, d)
		}
	}
	who, err := s.Starters(ctx, []string{"r1", "r2", "r3"})
	if d := cmp.Diff(map[string]gapless.Caller{"r1": alice, "r2": ci}, who); err != nil || d != "" {
		t.Errorf("%v (-want +have)\n%s", err, d)
	}
	if err := s.trimAudit(ctx, 1, begin.Add(150*time.Minute)); err != nil {
		t.Fatal(err)
	}
	have, err := s.Acts(ctx, "", time.Time{}, 0, 10)
	if d := cmp.Diff(acts[3:], have); err != nil || d != "" {
		t.Errorf("after it was trimmed: %v (-want +have)\n%s", err, d)
	}
}

func TestTokensAreKeptAsHashes(t *testing.T) {
	s, path := open(t)
	ctx := t.Context()
	want := []HashedToken{
		{Token: gapless.Token{Name: "a", Scope: gapless.ScopeAdmin, Created: time.Unix(1, 0).UTC()}, Hash: strings.Repeat("a", 64)},
		{Token: gapless.Token{Name: "ci", Scope: gapless.ScopeDeploy, Created: time.Unix(2, 0).UTC(), Expires: time.Unix(9, 0).UTC()}, Hash: strings.Repeat("c", 64)},
	}
	for _, tok := range []HashedToken{want[1], want[0]} {
		if err := s.AddToken(ctx, tok); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.AddToken(ctx, HashedToken{Token: gapless.Token{Name: "ci"}, Hash: "other"}); gapless.CodeOf(err) != gapless.Conflict {
		t.Errorf("a name that is taken: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	have, err := s.Tokens(ctx)
	if d := cmp.Diff(want, have); err != nil || d != "" {
		t.Errorf("%v (-want +have)\n%s", err, d)
	}
	if err := s.RemoveToken(ctx, "ci"); err != nil {
		t.Error(err)
	}
	if err := s.RemoveToken(ctx, "ci"); gapless.CodeOf(err) != gapless.NotFound {
		t.Errorf("a token that is not there: %v", err)
	}
	if have, err := s.Tokens(ctx); err != nil || len(have) != 1 {
		t.Errorf("%v, %v", have, err)
	}
}
