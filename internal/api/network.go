package api

import (
	"context"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gapless"
)

// bodyTime is how long a request from the network may take to arrive.
const bodyTime = 30 * time.Second

// Remote serves callers from the network: each needs a token, and has limits.
func (s *Server) Remote() http.Handler {
	n := &network{gate: s.Gate, calls: newLimiter(callRate, callBurst), strangers: newLimiter(strangerRate, strangerBurst),
		streams: &streams{of: map[string]int{}}, now: time.Now}
	return n.bound(s.mux(n))
}

// network is the door of the network.
type network struct {
	gate      Gate
	calls     *limiter // by token
	strangers *limiter // by address
	streams   *streams
	now       func() time.Time
}

// stillKnown is how often the token of a stream that is open is looked at.
const stillKnown = 2 * time.Second

// watch ends a stream when its token is revoked or expires.
func (n *network) watch(w http.ResponseWriter, r *http.Request) (context.Context, func(), error) {
	who, _ := CallerOf(r.Context())
	if !n.streams.open(who.Token) {
		return nil, nil, tooMany(w, time.Second, "too many streams are open")
	}
	ctx, cancel := context.WithCancel(r.Context())
	go func() {
		tick := time.NewTicker(stillKnown)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if _, err := n.known(r); gapless.CodeOf(err) == gapless.NotKnown {
					cancel()
				}
			}
		}
	}()
	return ctx, func() {
		cancel()
		n.streams.close(who.Token)
	}, nil
}

// admit finds out whose token a request carries. A valid token is never held
// up by what others try from the same address: guessing one of 256 bits is
// hopeless, so that the limit only has to keep strangers from costing much.
func (n *network) admit(w http.ResponseWriter, r *http.Request) (*http.Request, error) {
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		peer = r.RemoteAddr
	}
	token, err := n.known(r)
	if err != nil {
		if gapless.CodeOf(err) != gapless.NotKnown {
			return nil, err
		}
		w.Header().Set("Connection", "close") // a stranger keeps no place
		if ok, wait := n.strangers.take(peer, n.now()); !ok {
			return nil, tooMany(w, wait, "too many requests without a valid token from %s", peer)
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		return nil, err
	}
	if ok, wait := n.calls.take(token.Name, n.now()); !ok {
		return nil, tooMany(w, wait, "too many requests with token %s", token.Name)
	}
	c := caller{Caller: gapless.Caller{Token: token.Name, Peer: peer}, scope: token.Scope}
	return r.WithContext(context.WithValue(r.Context(), callerKey{}, c)), nil
}

func (n *network) tire(w http.ResponseWriter, who caller) error {
	if ok, wait := n.strangers.take("token "+who.Token, n.now()); !ok {
		return tooMany(w, wait, "too many requests that token %s may not make", who.Token)
	}
	return nil
}

func (n *network) known(r *http.Request) (gapless.Token, error) {
	scheme, secret, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return gapless.Token{}, gapless.Errorf(gapless.NotKnown, "no token was given").
			WithHint("send it as: Authorization: Bearer TOKEN; for gapless itself: GAPLESS_TOKEN")
	}
	return n.gate.Token(r.Context(), strings.TrimSpace(secret))
}

func tooMany(w http.ResponseWriter, wait time.Duration, format string, args ...any) error {
	seconds := max(1, int(math.Ceil(wait.Seconds())))
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	return gapless.Errorf(gapless.TooMany, format, args...).WithHint("try again in %d s", seconds)
}

// bound keeps slow senders from holding on.
func (n *network) bound(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).SetReadDeadline(n.now().Add(bodyTime)) // a recorder in a test has none
		next.ServeHTTP(w, r)
	})
}
