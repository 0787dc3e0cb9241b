package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"gapless"
)

// Handler serves s.
func Handler(s Service, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	h := func(pattern string, f func(w http.ResponseWriter, r *http.Request) error) {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" /"+Version+path, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
			if err := f(w, r); err != nil {
				writeError(w, log, r, err)
			}
		})
	}
	h("GET /status", func(w http.ResponseWriter, r *http.Request) error {
		st, err := s.Status(r.Context())
		return answer(w, st, err)
	})
	h("POST /apps/{app}/deploy", func(w http.ResponseWriter, r *http.Request) error {
		var req DeployRequest
		if err := decode(r.Body, &req); err != nil {
			return err
		}
		if req.App.Name != r.PathValue("app") {
			return gapless.Errorf(gapless.Invalid, "the path names app %q, the body %q", r.PathValue("app"), req.App.Name)
		}
		ro, err := s.Deploy(r.Context(), req)
		return answer(w, ro, err)
	})
	for verb, f := range map[string]func(context.Context, string) (gapless.Rollout, error){
		"restart": s.Restart, "abort": s.Abort, "promote": s.Promote, "pause": s.Pause, "resume": s.Resume,
	} {
		h("POST /apps/{app}/"+verb, func(w http.ResponseWriter, r *http.Request) error {
			ro, err := f(r.Context(), r.PathValue("app"))
			return answer(w, ro, err)
		})
	}
	h("POST /apps/{app}/rollback", func(w http.ResponseWriter, r *http.Request) error {
		var req struct {
			Release string `json:"release"`
		}
		if err := decode(r.Body, &req); err != nil {
			return err
		}
		ro, err := s.Rollback(r.Context(), r.PathValue("app"), req.Release)
		return answer(w, ro, err)
	})
	h("POST /apps/{app}/plan", func(w http.ResponseWriter, r *http.Request) error {
		var req DeployRequest
		if err := decode(r.Body, &req); err != nil {
			return err
		}
		plan, err := s.Plan(r.Context(), req)
		return answer(w, plan, err)
	})
	h("GET /apps/{app}/rollouts", func(w http.ResponseWriter, r *http.Request) error {
		list, err := s.Rollouts(r.Context(), r.PathValue("app"))
		return answer(w, list, err)
	})
	h("POST /apps/{app}/scale", func(w http.ResponseWriter, r *http.Request) error {
		var req ScaleRequest
		if err := decode(r.Body, &req); err != nil {
			return err
		}
		ro, err := s.Scale(r.Context(), r.PathValue("app"), req)
		return answer(w, ro, err)
	})
	h("POST /apps/{app}/down", func(w http.ResponseWriter, r *http.Request) error {
		return answer(w, struct{}{}, s.Down(r.Context(), r.PathValue("app")))
	})
	h("GET /apps/{app}/releases", func(w http.ResponseWriter, r *http.Request) error {
		list, err := s.Releases(r.Context(), r.PathValue("app"))
		return answer(w, list, err)
	})
	h("GET /apps/{app}/logs", func(w http.ResponseWriter, r *http.Request) error { return logs(s, w, r) })
	h("GET /rollouts/{id}", func(w http.ResponseWriter, r *http.Request) error {
		ro, err := s.Rollout(r.Context(), r.PathValue("id"))
		return answer(w, ro, err)
	})
	h("GET /rollouts/{id}/events", func(w http.ResponseWriter, r *http.Request) error { return events(s, w, r) })
	h("POST /shutdown", func(w http.ResponseWriter, r *http.Request) error {
		return answer(w, struct{}{}, s.Shutdown(r.Context()))
	})
	secretRoutes(h, s)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, log, r, gapless.Errorf(gapless.NotFound, "no %s %s in this API", r.Method, r.URL.Path).
			WithHint("client and daemon may be of different versions"))
	})
	return mux
}

func logs(s Service, w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	lines, err := strconv.Atoi(q.Get("lines"))
	if err != nil || lines < 0 {
		return gapless.Errorf(gapless.Invalid, "lines=%q is not a number", q.Get("lines"))
	}
	seq, err := s.Logs(r.Context(), r.PathValue("app"), LogRequest{Lines: lines, Follow: q.Get("follow") == "true",
		Instance: q.Get("instance"), Stream: q.Get("stream")})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	flush := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	for line, err := range seq {
		if err != nil {
			return cut(err)
		}
		if err := enc.Encode(line); err != nil {
			return cut(err)
		}
		if q.Get("follow") == "true" {
			if err := flush.Flush(); err != nil {
				return cut(err)
			}
		}
	}
	return nil
}

func events(s Service, w http.ResponseWriter, r *http.Request) error {
	since, err := strconv.ParseInt(r.URL.Query().Get("since"), 10, 64)
	if err != nil {
		since = 0
	}
	seq, err := s.Events(r.Context(), r.PathValue("id"), since)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	flush := http.NewResponseController(w)
	if err := flush.Flush(); err != nil {
		return cut(err)
	}
	for e, err := range seq {
		if err != nil {
			return cut(err)
		}
		data, err := json.Marshal(e)
		if err != nil {
			return cut(err)
		}
		if _, err := io.WriteString(w, "id: "+strconv.FormatInt(e.Seq, 10)+"\ndata: "+string(data)+"\n\n"); err != nil {
			return cut(err)
		}
		if err := flush.Flush(); err != nil {
			return cut(err)
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

func decode(r io.Reader, v any) error {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return gapless.Errorf(gapless.Invalid, "request body: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return gapless.Errorf(gapless.Invalid, "request body: more than one JSON value")
	}
	return nil
}

func answer(w http.ResponseWriter, v any, err error) error {
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func writeError(w http.ResponseWriter, log *slog.Logger, r *http.Request, err error) {
	var e *gapless.Error
	if !errors.As(err, &e) {
		e = gapless.Errorf(gapless.Internal, "%s", err)
	} else if full := err.Error(); full != e.Message {
		c := *e
		c.Message, e = full, &c
	}
	if e.Code == gapless.Internal {
		log.Error("api", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Code.Status())
	_ = json.NewEncoder(w).Encode(map[string]*gapless.Error{"error": e}) // the client is gone: nobody to tell
}

// secretRoutes serves secrets: values go in and never come out.
func secretRoutes(h func(pattern string, f func(w http.ResponseWriter, r *http.Request) error), s SecretService) {
	h("GET /apps/{app}/secrets", func(w http.ResponseWriter, r *http.Request) error {
		list, err := s.Secrets(r.Context(), r.PathValue("app"))
		return answer(w, list, err)
	})
	h("PUT /apps/{app}/secrets/{name}", func(w http.ResponseWriter, r *http.Request) error {
		var req SecretRequest
		if err := decode(r.Body, &req); err != nil {
			return err
		}
		return answer(w, struct{}{}, s.SetSecret(r.Context(), r.PathValue("app"), r.PathValue("name"), req.Value))
	})
	h("DELETE /apps/{app}/secrets/{name}", func(w http.ResponseWriter, r *http.Request) error {
		return answer(w, struct{}{}, s.RemoveSecret(r.Context(), r.PathValue("app"), r.PathValue("name")))
	})
}
