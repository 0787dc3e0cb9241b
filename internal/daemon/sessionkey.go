package daemon

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"time"

	"gapless"
	"gapless/internal/durable"
)

// A key signs sessions for keyLife, and is believed for as long again: longer
// than any session lasts. So nobody notices that keys change.
const (
	keyLife  = 30 * 24 * time.Hour
	keysKept = 2
)

// SessionKey is the file with the keys that sign what clients bring back.
// Without it a new one is made, and every session begins anew.
func (h Home) SessionKey() string { return h.path("session.key") }

// sessionKey is one key of the file, the newest first.
type sessionKey struct {
	Key  []byte    `json:"key"`
	Made time.Time `json:"made"`
}

// sessionKeys reads the keys, and makes a new one where the newest is old or
// there is none. With an error there may be keys all the same.
func sessionKeys(home Home, now time.Time) (gapless.SessionKeys, error) {
	path := home.SessionKey()
	list, err := readSessionKeys(path)
	if err != nil {
		return nil, fmt.Errorf("the keys of sessions %s: %w", path, err)
	}
	if len(list) == 0 || now.Sub(list[0].Made) >= keyLife {
		key := make([]byte, gapless.SessionKeySize)
		if _, err := rand.Read(key); err != nil {
			return nil, fmt.Errorf("make a key of sessions: %w", err)
		}
		next := append([]sessionKey{{Key: key, Made: now.UTC()}}, list...)
		next = next[:min(len(next), keysKept)]
		data, err := json.Marshal(next)
		if err == nil {
			err = durable.Write(path, data)
		}
		if err != nil { // the old ones are good as long as nobody knows others
			return bare(list), fmt.Errorf("save the keys of sessions %s: %w", path, err)
		}
		list = next
	}
	return bare(list), nil
}

func bare(list []sessionKey) (keys gapless.SessionKeys) {
	for _, k := range list {
		keys = append(keys, k.Key)
	}
	return keys
}

func readSessionKeys(path string) (list []sessionKey, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, gapless.Errorf(gapless.Unavailable, "others can read them (mode %o)", info.Mode().Perm()).
			WithHint("rm %s; new ones are made, and sessions begin anew", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	bad := json.Unmarshal(data, &list) != nil || len(list) == 0 // its error could show a key
	for _, k := range list {
		bad = bad || len(k.Key) != gapless.SessionKeySize
	}
	if bad {
		return nil, gapless.Errorf(gapless.Unavailable, "the file is damaged").WithHint("rm %s; new ones are made, and sessions begin anew", path)
	}
	return list, nil
}

// keysFor are the keys of a table with these routes: those that it had, unless
// there are newer ones. Without keys requests are routed all the same, each on
// its own.
func (r *router) keysFor(t gapless.Table) gapless.SessionKeys {
	for i := range t.Routes {
		if t.Routes[i].Sessions == nil {
			continue
		}
		keys, err := sessionKeys(r.home, time.Now())
		if err != nil {
			r.log.Warn("sessions are not kept", "err", err, "hint", gapless.HintOf(err))
		}
		return keys
	}
	return t.SessionKeys
}

// renewKeys looks now and then whether it is time for a new key, until ctx ends.
func (r *router) renewKeys(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		r.mu.Lock()
		if keys := r.keysFor(r.table); !reflect.DeepEqual(keys, r.table.SessionKeys) {
			r.table.SessionKeys = keys
			r.table.Version++
		}
		r.mu.Unlock()
		if err := r.sync(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("give the edges the new key of sessions", "err", err)
		}
	}
}
