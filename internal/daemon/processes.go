package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"gapless"
	"gapless/internal/edge"
	"gapless/internal/keeper"
)

// tableKey is where the newest edge keeps its last table.
const tableKey = "table"

// RunKeeper is the keeper process.
func RunKeeper(ctx context.Context, home Home, version string) error {
	if err := home.Make(); err != nil {
		return err
	}
	exe, err := Executable()
	if err != nil {
		return err
	}
	if !keeper.Inherits() {
		if err := becomeCopy(home, exe); err != nil {
			return err
		}
	}
	return keeper.Run(ctx, keeper.Config{
		RunDir: home.Run(),
		Children: []keeper.Child{
			{Name: keeper.EdgeChild, Argv: []string{exe, "edge"}, Log: logTo(home, keeper.EdgeChild)},
			{Name: keeper.DaemonChild, Argv: []string{exe, "daemon"}, Log: logTo(home, keeper.DaemonChild)},
		},
		Version: version,
		Log:     processLog("keeper"),
		LogTo:   logTo(home, "keeper"),
	})
}

// Whoever starts gapless in the foreground, such as systemd, collects what its
// processes say. Started by a command they have nobody: logEnv is in their
// environment, and keeper puts all of it into gapless.log.
const logEnv = "GAPLESS_LOG"

// gapless.log is at most logLimit bytes long, and so is the one before it.
const logLimit = 10 << 20

// logTo is where a process's log goes, nil for its stderr.
func logTo(home Home, process string) *keeper.Log {
	if os.Getenv(logEnv) == "" {
		return nil
	}
	return &keeper.Log{Path: home.Log(), Label: process, MaxSize: logLimit, Keep: 1}
}

// RunEdge is an edge process; keeper gives it its generation.
func RunEdge(ctx context.Context, home Home) error {
	generation, err := strconv.Atoi(os.Getenv(keeper.GenerationEnv))
	if err != nil {
		return fmt.Errorf("%s=%q is not a number; edges are started by keeper", keeper.GenerationEnv, os.Getenv(keeper.GenerationEnv))
	}
	log := processLog("edge").With("generation", generation)
	k, err := dialKeeper(ctx, home)
	if err != nil {
		return err
	}
	defer func() { _ = k.Close() }()
	defer hold(ctx, home, edgeWaits, log)()
	return edge.Run(ctx, edge.Config{Generation: generation, Socket: home.EdgeSocket(generation), Host: &edgeHost{home: home, k: k}, Log: log, TLS: home.tls()})
}

// edgeHost gives an edge what keeper holds.
type edgeHost struct {
	home Home
	k    *keeper.Client
}

func (h *edgeHost) Listener(ctx context.Context, addr string) (net.Listener, error) {
	return h.k.Listener(ctx, addr)
}
func (h *edgeHost) Save(ctx context.Context, table []byte) error {
	return h.k.Put(ctx, tableKey, table)
}
func (h *edgeHost) Load(ctx context.Context) ([]byte, error) { return lastTable(ctx, h.k) }

// lastTable is the table that the newest edge stored, nil before the first.
func lastTable(ctx context.Context, k *keeper.Client) ([]byte, error) {
	data, err := k.Get(ctx, tableKey)
	if gapless.CodeOf(err) == gapless.NotFound {
		return nil, nil
	}
	return data, err
}

// processLog writes one line per record to stderr.
func processLog(name string) *slog.Logger {
	if os.Getenv(logEnv) != "" { // keeper puts time and name before every line
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{ReplaceAttr: keeper.WithoutTime})).With("pid", os.Getpid())
	}
	return slog.New(slog.NewTextHandler(os.Stderr, nil)).With("process", name, "pid", os.Getpid())
}

const callLimit = 5 * time.Second
