package daemon

import (
	"log/slog"
	"maps"
	"slices"
	"testing"

	"gapless/internal/keeper"
)

// TestWatchKnowsEveryEdge begins to watch a keeper that has two edges and has
// not told of any yet. With one of them unknown, what the other serves would
// be taken for all that is served.
func TestWatchKnowsEveryEdge(t *testing.T) {
	edge := func(generation int, running bool) keeper.Proc {
		return keeper.Proc{ID: "e", Kind: keeper.KindEdge, Generation: generation, Running: running}
	}
	d := &Daemon{keeper: fakeKeeper(t, edge(3, true), edge(2, true), edge(1, false), keeper.Proc{ID: "shop.v1", Kind: keeper.KindInstance, Running: true})}
	var err error
	if d.router, err = newRouter(t.Context(), Home(t.TempDir()), d.keeper, slog.New(slog.DiscardHandler), func(...string) {}); err != nil {
		t.Fatal(err)
	}
	d.router.edge(edge(7, true)) // of a keeper before
	if _, err := d.watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(d.router.edges)); !slices.Equal(got, []int{2, 3}) {
		t.Errorf("edges %v are known", got)
	}
	if served, err := d.router.Observed(t.Context(), "shop"); err != nil || served.Known {
		t.Error("what two edges serve is known, and none answered")
	}
}
