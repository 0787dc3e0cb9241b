package main

import (
	"testing"

	"gapless/internal/api"
	"gapless/internal/load"
)

func TestMemoryOfAllProcesses(t *testing.T) {
	whole := []api.Proc{{Name: "keeper", Memory: 5 << 20}, {Name: "daemon", Memory: 20 << 20}, {Name: "edge", Memory: 10 << 20}}
	if rows, err := memory(whole); err != nil || len(rows) != 3 {
		t.Errorf("%v %v", rows, err)
	}
	for name, procs := range map[string][]api.Proc{
		"nothing":         nil,
		"no edge":         whole[:2],
		"unreadable":      {whole[0], whole[1], {Name: "edge"}},
		"one not limited": append(append([]api.Proc(nil), whole...), api.Proc{Name: "other", Memory: 1}),
	} {
		if rows, err := memory(procs); err == nil {
			t.Errorf("%s: %v", name, rows)
		}
	}
}

func TestFailedRestartsDoNotWin(t *testing.T) {
	good := []restart{
		{Subject: "PM2 7", App: "http", Seconds: 2, Load: load.Counts{Requests: 100, OK: 98, Dropped: 2}},
		{Subject: "gapless", App: "http", Seconds: 1, Load: load.Counts{Requests: 100, OK: 100}},
	}
	if rows, err := compare(good); err != nil || len(rows) != 1 || rows[0].got != 1 || rows[0].limit != 2 {
		t.Errorf("%v %v", rows, err)
	}
	for name, change := range map[string]func(pm2, gapless *restart){
		"gapless failed": func(_, g *restart) { g.Exit = 1 },
		"gapless lost":   func(_, g *restart) { g.Load.Dropped = 1 },
		"gapless wrong":  func(_, g *restart) { g.Load.Bad = 1 },
		"gapless down":   func(_, g *restart) { g.Down = true },
		"no load":        func(_, g *restart) { g.Load = load.Counts{} },
		"pm2 failed":     func(p, _ *restart) { p.Exit = 1 },
		"not measured":   func(p, _ *restart) { p.App = "express" },
	} {
		results := append([]restart(nil), good...)
		change(&results[0], &results[1])
		if rows, err := compare(results); err == nil {
			t.Errorf("%s: %v", name, rows)
		}
	}
}
