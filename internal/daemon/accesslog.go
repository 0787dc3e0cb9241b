package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"iter"
	"os"
	"strings"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/keeper"
)

// accessStream is the stream of lines of an access log.
const accessStream = "access"

// accessLines are the lines of an app's access log.
func (d *Daemon) accessLines(ctx context.Context, name string, req api.LogRequest) (iter.Seq2[api.LogLine, error], error) {
	if req.Instance != "" || req.Stream != "" {
		return nil, gapless.Errorf(gapless.Invalid, "the access log is of all instances, and has no streams").
			WithHint("leave out --instance and --stream, or --access")
	}
	path := d.home.AccessLog(name)
	on := false
	for _, r := range d.router.present().Routes {
		if r.App == name && r.AccessLog != nil {
			path, on = r.AccessLog.Path, true
		}
	}
	if _, err := os.Stat(path); !on && errors.Is(err, fs.ErrNotExist) {
		return nil, gapless.Errorf(gapless.NotFound, "%s has no access log", name).
			WithHint("write access_log: true into gapless.yaml and deploy")
	}
	opt := keeper.ReadOptions{Lines: req.Lines, Follow: req.Follow, Parse: accessLine}
	return func(yield func(api.LogLine, error) bool) {
		for l, err := range keeper.ReadLogs(ctx, path, opt) {
			if !yield(api.LogLine{Time: l.Time, Stream: accessStream, Text: l.Text}, err) {
				return
			}
		}
	}, nil
}

// accessLine takes a line of any format as it is, with its time.
func accessLine(b []byte) (keeper.Line, bool) {
	text := string(bytes.TrimRight(b, "\r\n"))
	if text == "" {
		return keeper.Line{}, false
	}
	l := keeper.Line{Stream: accessStream, Text: text}
	var line struct {
		Time time.Time `json:"time"`
	}
	if json.Unmarshal([]byte(text), &line) == nil {
		l.Time = line.Time
		return l, true
	}
	_, rest, _ := strings.Cut(text, "[")
	at, _, _ := strings.Cut(rest, "]")
	l.Time, _ = time.Parse("02/Jan/2006:15:04:05 -0700", at) // zero: it is somebody else's line
	return l, true
}
