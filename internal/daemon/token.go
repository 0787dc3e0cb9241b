package daemon

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"strings"
	"sync"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/store"
)

// secretPrefix begins every token, so that scanners for secrets find one that
// was published by mistake.
const secretPrefix = "gapless_"

// tokens are the tokens of the API, read once: a stranger's request costs no
// query. What is kept of one is the hash of its secret, which has 256 random
// bits and so needs no salt and no slow hash.
type tokens struct {
	mu     sync.Mutex
	known  []store.HashedToken
	loaded bool
}

func (t *tokens) list(ctx context.Context, s *store.Store) ([]store.HashedToken, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.loaded {
		known, err := s.Tokens(ctx)
		if err != nil {
			return nil, err
		}
		t.known, t.loaded = known, true
	}
	return t.known, nil
}

// forget makes the next look read them again.
func (t *tokens) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known, t.loaded = nil, false
}

func hashOf(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Token implements api.Gate.
func (d *Daemon) Token(ctx context.Context, secret string) (gapless.Token, error) {
	list, err := d.tokens.list(ctx, d.store)
	if err != nil {
		return gapless.Token{}, err
	}
	hash := []byte(hashOf(secret))
	var found *gapless.Token
	for i := range list { // all of them, in the same time whichever it is
		if subtle.ConstantTimeCompare(hash, []byte(list[i].Hash)) == 1 {
			found = &list[i].Token
		}
	}
	switch {
	case found == nil:
		return gapless.Token{}, gapless.Errorf(gapless.NotKnown, "the token is not valid").
			WithHint("it was revoked, or is of another installation; on the server: gapless token list")
	case found.Expired(time.Now()):
		return gapless.Token{}, gapless.Errorf(gapless.NotKnown, "token %s expired at %s", found.Name, found.Expires.Format(time.RFC3339)).
			WithHint("make another: gapless token create")
	}
	return *found, nil
}

// Tokens implements api.Service.
func (d *Daemon) Tokens(ctx context.Context) ([]gapless.Token, error) {
	list, err := d.tokens.list(ctx, d.store)
	if err != nil {
		return nil, err
	}
	out := make([]gapless.Token, 0, len(list))
	for _, t := range list {
		out = append(out, t.Token)
	}
	return out, nil
}

// CreateToken implements api.Service.
func (d *Daemon) CreateToken(ctx context.Context, req api.TokenRequest) (api.NewToken, error) {
	now := time.Now().UTC().Truncate(time.Second)
	t := gapless.Token{Name: req.Name, Scope: req.Scope, Created: now}
	if req.Expires > 0 {
		t.Expires = now.Add(req.Expires.Std())
	}
	if err := t.Validate(now); err != nil {
		return api.NewToken{}, err
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return api.NewToken{}, err
	}
	secret := secretPrefix + base64.RawURLEncoding.EncodeToString(raw)
	if err := d.store.AddToken(ctx, store.HashedToken{Token: t, Hash: hashOf(secret)}); err != nil {
		return api.NewToken{}, err
	}
	d.tokens.forget()
	return api.NewToken{Token: t, Secret: secret}, nil
}

// RevokeToken implements api.Service.
func (d *Daemon) RevokeToken(ctx context.Context, name string) error {
	defer d.tokens.forget()
	return d.store.RemoveToken(ctx, strings.TrimSpace(name))
}
