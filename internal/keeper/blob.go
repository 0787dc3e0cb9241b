package keeper

import (
	"bytes"
	"sync"

	"gapless"
)

// blobs are small opaque values kept for others, in memory only.
type blobs struct {
	mu     sync.Mutex
	values map[string][]byte
	tell   func(key string, value []byte) // of every change; nil: it is gone
}

func (b *blobs) put(key string, value []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(value) == 0 {
		delete(b.values, key)
		b.tell(key, nil)
		return nil
	}
	_, known := b.values[key]
	switch {
	case key == "" || len(key) > 256:
		return gapless.Errorf(gapless.Invalid, "put: key %.20q is not usable", key)
	case len(value) > maxValue:
		return gapless.Errorf(gapless.Invalid, "put %s: %d bytes, at most %d are kept", key, len(value), maxValue)
	case !known && len(b.values) >= maxKeys:
		return gapless.Errorf(gapless.Conflict, "put %s: %d keys are kept already", key, maxKeys)
	}
	b.values[key] = bytes.Clone(value)
	b.tell(key, b.values[key])
	return nil
}

func (b *blobs) get(key string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	value, ok := b.values[key]
	if !ok {
		return nil, gapless.Errorf(gapless.NotFound, "keeper has no value %q", key)
	}
	return value, nil
}
