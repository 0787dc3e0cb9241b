package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gapless"
)

// Server answers the API for one Service.
type Server struct {
	Service Service
	Gate    Gate // nil: nothing is recorded, and there is no Remote
	Log     *slog.Logger
}

// Handler serves s to the owner of the unix socket, and records nothing.
func Handler(s Service, log *slog.Logger) http.Handler {
	return (&Server{Service: s, Log: log}).Local()
}

// Local serves whoever can reach the unix socket.
func (s *Server) Local() http.Handler { return s.mux(socket{}) }

// door is where requests come in.
type door interface {
	// admit says who sends a request, or refuses it. The request that it
	// returns carries the caller in its context.
	admit(http.ResponseWriter, *http.Request) (*http.Request, error)
	// watch lets one stream begin, or refuses it. Its context ends when the
	// caller may not have it any more; done gives back its place.
	watch(http.ResponseWriter, *http.Request) (ctx context.Context, done func(), err error)
	// tire refuses a caller who asks again and again for what they may not:
	// that is not recorded any more, or it would push out of the audit what is.
	tire(http.ResponseWriter, caller) error
}

func (s *Server) mux(d door) http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, e := range endpoints() {
		path := "/" + Version + e.path
		methods[path] = append(methods[path], e.method)
		mux.HandleFunc(e.method+" "+path, func(w http.ResponseWriter, r *http.Request) { s.serve(e, d, w, r) })
	}
	for path, known := range methods {
		slices.Sort(known)
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(known, ", "))
			s.refuse(w, r, gapless.Errorf(gapless.WrongMethod, "%s takes no %s", r.URL.Path, r.Method).
				WithHint("it takes %s", strings.Join(known, ", ")))
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, gapless.Errorf(gapless.NotFound, "no %s %s in this API", r.Method, r.URL.Path).
			WithHint("the daemon may be older than its client: gapless upgrade brings it up to date"))
	})
	return mux
}

// serve answers one request: who, may they, do it, remember it.
func (s *Server) serve(e endpoint, d door, w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
	admitted, err := d.admit(w, r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	r = admitted
	who := r.Context().Value(callerKey{}).(caller)
	c := &visit{Service: s.Service, w: w, r: r, act: &gapless.Act{Time: time.Now().UTC(), Caller: who.Caller, Verb: e.verb, App: r.PathValue("app")}}
	err = e.may(who)
	if err != nil {
		if tired := d.tire(w, who); tired != nil {
			s.refuse(w, r, tired)
			return
		}
	}
	if err == nil {
		err = e.checkQuery(r.URL.RawQuery)
	}
	if err == nil && e.stream != "" {
		ctx, done, refused := d.watch(w, r)
		if err = refused; err == nil {
			defer done()
			c.r = r.WithContext(ctx)
		}
	}
	if err == nil && e.in == nil {
		c.received()
	}
	if err == nil {
		err = e.serve(c)
	}
	if e.verb != "" && s.Gate != nil {
		c.act.Outcome = gapless.ActOK
		if err != nil {
			c.act.Outcome, c.act.Message = string(gapless.CodeOf(err)), err.Error()
		}
		// Whoever asked may be gone: it is remembered all the same.
		s.Gate.Record(context.WithoutCancel(r.Context()), *c.act)
	}
	if err != nil {
		s.refuse(w, r, err)
	}
}

// may refuses a caller who may not use the endpoint.
func (e endpoint) may(who caller) error {
	switch {
	case e.local && !who.local:
		return gapless.Errorf(gapless.NotAllowed, "%s is not offered over the network", strings.Trim(e.path[strings.LastIndex(e.path, "/"):], "/")).
			WithHint("run it on the machine that gapless runs on")
	case !who.scope.Allows(e.scope):
		return gapless.Errorf(gapless.NotAllowed, "token %s has scope %s, and this needs %s", who.Token, who.scope, e.scope).
			WithHint("make one that may: gapless token create --name NAME --scope %s", e.scope)
	}
	return nil
}

// received lifts the limit on the time that a request may take to arrive.
func (c *visit) received() {
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{}) // a recorder in a test has none
}

// answer sends one JSON value.
func (c *visit) answer(v any, err error) error {
	if r, ok := v.(gapless.Rollout); ok && err == nil {
		c.act.App, c.act.Rollout = r.App, r.ID
	}
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(c.w).Encode(v)
}

// send sends the values of seq as they come.
func send[T any](c *visit, media string, seq iter.Seq2[T, error]) error {
	c.w.Header().Set("Content-Type", media)
	c.w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(c.w)
	// Who reads a log or the audit once gets it in large pieces.
	follows := media == sse || c.r.URL.Query().Get("follow") == "true" || reflect.TypeFor[T]() == reflect.TypeFor[OnceOutput]()
	if follows {
		if err := flush.Flush(); err != nil {
			return cut(err)
		}
	}
	for v, err := range seq {
		if err != nil {
			return cut(err)
		}
		data, err := json.Marshal(v)
		if err != nil {
			return cut(err)
		}
		text := string(data) + "\n"
		if media == sse {
			text = "data: " + text + "\n"
			if e, ok := any(v).(gapless.Event); ok {
				text = "id: " + strconv.FormatInt(e.Seq, 10) + "\n" + text
			}
		}
		if _, err := io.WriteString(c.w, text); err != nil {
			return cut(err)
		}
		if follows {
			if err := flush.Flush(); err != nil {
				return cut(err)
			}
		}
	}
	return nil
}

// cut ends a stream that has begun: the status is sent already, so the
// connection is closed in the middle and the client sees that it is incomplete.
func cut(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	panic(http.ErrAbortHandler)
}

// refuse answers with an error.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var e *gapless.Error
	if !errors.As(err, &e) {
		e = gapless.Errorf(gapless.Internal, "%s", err)
	} else if full := err.Error(); full != e.Message {
		c := *e
		c.Message, e = full, &c
	}
	if e.Code == gapless.Internal {
		s.Log.Error("api", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Code.Status())
	_ = json.NewEncoder(w).Encode(map[string]*gapless.Error{"error": e}) // the client is gone: nobody to tell
}
