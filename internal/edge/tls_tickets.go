package edge

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"gapless"
	"gapless/internal/durable"
)

// A client that comes back brings a ticket, which is encrypted with a key of
// the server. All edge generations of an installation read these keys from one
// file, so a session goes on after an upgrade, too. The daemon makes a new key
// every TicketEvery, and drops those that are older than TicketKeep.
const (
	TicketEvery = 12 * time.Hour
	TicketKeep  = 36 * time.Hour

	ticketSettle = 5 * time.Second // until every edge has read a new key
	mostTickets  = 16
)

// ticket is one key: a line of the file, "<unix seconds> <base64>".
type ticket struct {
	made time.Time
	key  [32]byte
}

// WriteTickets brings the file of session keys up to date, with mode 0600.
// A file that cannot be understood is replaced: sessions are lost, no more.
func WriteTickets(path string, now time.Time) error {
	list, err := readTickets(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && gapless.CodeOf(err) != gapless.Invalid {
		return err
	}
	kept := list[:0]
	for _, t := range list {
		if age := now.Sub(t.made); age < TicketKeep && age > -time.Hour {
			kept = append(kept, t)
		}
	}
	if len(kept) > 0 && now.Sub(kept[0].made) < TicketEvery && len(kept) == len(list) {
		return nil
	}
	if len(kept) == 0 || now.Sub(kept[0].made) >= TicketEvery {
		t := ticket{made: now}
		if _, err := rand.Read(t.key[:]); err != nil {
			return fmt.Errorf("make a session key: %w", err)
		}
		kept = append([]ticket{t}, kept...)
	}
	var b strings.Builder
	for _, t := range kept[:min(len(kept), mostTickets)] {
		fmt.Fprintf(&b, "%d %s\n", t.made.Unix(), base64.StdEncoding.EncodeToString(t.key[:]))
	}
	return durable.Write(path, []byte(b.String()))
}

// readTickets reads the file, newest key first.
func readTickets(path string) ([]ticket, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var out []ticket
	for line := range strings.Lines(string(data)) {
		at, key, _ := strings.Cut(strings.TrimSpace(line), " ")
		sec, err := strconv.ParseInt(at, 10, 64)
		raw, err2 := base64.StdEncoding.DecodeString(key)
		if err != nil || err2 != nil || len(raw) != 32 {
			return nil, gapless.Errorf(gapless.Invalid, "read session keys %s: line %d is none", path, len(out)+1)
		}
		out = append(out, ticket{time.Unix(sec, 0), [32]byte(raw)})
		if len(out) == mostTickets {
			break
		}
	}
	return out, nil
}

// tickets are the session keys that an edge uses.
type tickets struct {
	seen  stamp
	list  []ticket
	first [32]byte // that new tickets are made with
	told  string
}

// refresh takes in the present keys. New tickets are made with the newest key
// that every other edge has read by now.
func (k *tickets) refresh(path string, cfg *tls.Config, log *slog.Logger) {
	if path == "" {
		return
	}
	changed := false
	if now := stampOf(path); now != k.seen {
		list, err := readTickets(path)
		if err != nil {
			if k.told != err.Error() {
				k.told = err.Error()
				log.Warn("session keys cannot be read: sessions do not outlive this edge", "error", err)
			}
			return
		}
		k.seen, k.list, k.told, changed = now, list, "", true
	}
	if len(k.list) == 0 {
		return
	}
	at := 0
	for at < len(k.list)-1 && time.Since(k.list[at].made) < ticketSettle {
		at++
	}
	if !changed && k.first == k.list[at].key {
		return
	}
	k.first = k.list[at].key
	keys := [][32]byte{k.first}
	for i, t := range k.list {
		if i != at {
			keys = append(keys, t.key)
		}
	}
	cfg.SetSessionTicketKeys(keys)
}
