package keeper

import "log/slog"

// own is the end of keeper's own log in a file that it keeps small like those
// of its processes, and that may be one of those.
type own struct {
	file    *logFile
	scratch *buffers
	label   string
}

func (o own) Write(p []byte) (int, error) {
	o.file.write(o.scratch, o.label, "err", p, true)
	return len(p), nil
}

// ownLog makes keeper log to l. Its lines have no time of their own: every
// line of the file has one.
func (s *logFiles) ownLog(l Log, scratch *buffers) *slog.Logger {
	f := s.open(l)
	// What it would say of its own file would have to go there: the file tells
	// by itself what it could not take.
	f.log = slog.New(slog.DiscardHandler)
	return slog.New(slog.NewTextHandler(own{f, scratch, l.Label}, &slog.HandlerOptions{ReplaceAttr: WithoutTime}))
}

// WithoutTime is slog's ReplaceAttr for lines that are stamped where they end up.
func WithoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
