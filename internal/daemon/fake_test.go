package daemon

import (
	"bufio"
	"encoding/json"
	"net"
	"path/filepath"
	"testing"

	"gapless/internal/keeper"
)

// fakeKeeper answers what a daemon asks before it is told anything: no
// sockets, no blobs, and the processes given.
func fakeKeeper(t *testing.T, procs ...keeper.Proc) *keeper.Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "k.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				for in := bufio.NewScanner(conn); in.Scan(); {
					var req struct {
						ID uint64
						Op string
					}
					if json.Unmarshal(in.Bytes(), &req) != nil {
						return
					}
					out := map[string]any{"v": 1, "id": req.ID}
					switch req.Op {
					case "watch": // and tells nothing yet
						out["result"] = struct{}{}
					case "list":
						out["result"] = procs
					case "listeners":
						out["result"] = []string{}
					case "get":
						out["error"] = map[string]string{"code": "not_found", "message": "no such key"}
					default:
						out["error"] = map[string]string{"code": "unsupported", "message": "a fake does not know " + req.Op}
					}
					if json.NewEncoder(conn).Encode(out) != nil {
						return
					}
				}
			}()
		}
	}()
	k, err := keeper.Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}
