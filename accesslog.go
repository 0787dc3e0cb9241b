package gapless

import (
	"path/filepath"
	"slices"
	"strings"
)

// Formats of an access log.
const (
	AccessJSON     = "json"
	AccessCommon   = "common"   // as Apache and nginx write it
	AccessCombined = "combined" // common, with Referer and User-Agent
)

// AccessFormats are all formats, the default first.
func AccessFormats() []string { return []string{AccessJSON, AccessCommon, AccessCombined} }

// AccessLog says that the edge writes a line for each request, and where.
type AccessLog struct {
	Path   string `json:"path,omitempty"`   // absolute; set where the App becomes a Route
	Format string `json:"format,omitempty"` // "": AccessJSON
	Query  bool   `json:"query,omitempty"`  // write what follows the ? of targets and referers, too
	LogPolicy
}

// Validate checks what the edge relies on.
func (l AccessLog) Validate() error {
	switch {
	case !filepath.IsAbs(l.Path):
		return Errorf(Invalid, "path %q of the access log is not absolute", l.Path)
	case l.Format != "" && !slices.Contains(AccessFormats(), l.Format):
		return Errorf(Invalid, "format %q of the access log is not known", l.Format).
			WithHint("known: %s", strings.Join(AccessFormats(), ", "))
	case l.MaxSize < 0 || l.MaxAge < 0 || l.Keep < 0:
		return Errorf(Invalid, "the access log %s has a limit below 0", l.Path)
	}
	return nil
}
