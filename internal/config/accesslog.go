package config

import (
	"path/filepath"
	"time"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

// accessLog reads true, false, or a map with more.
func (r *reader) accessLog(dst **gapless.AccessLog) setter {
	return func(n ast.Node) {
		if b, ok := n.(*ast.BoolNode); ok && !b.Value {
			*dst = nil
			return
		}
		l := &gapless.AccessLog{Format: gapless.AccessJSON, LogPolicy: gapless.LogPolicy{
			MaxSize: 50 << 20, MaxAge: gapless.Duration(24 * time.Hour), Keep: 10}}
		*dst = l
		switch n.(type) {
		case *ast.BoolNode:
		case *ast.StringNode:
			r.fail(n, faultf("access_log is neither true nor a map").withHint("write access_log: { path: /var/log/shop.log }, or true for a file among the app's logs"))
		default:
			r.object(n, "access_log", r.accessLogKeys(l))
		}
	}
}

func (r *reader) accessLogKeys(dst *gapless.AccessLog) map[string]setter {
	keys := r.logKeys(&dst.LogPolicy)
	keys["path"] = r.str(&dst.Path, "path", func(v string) *fault {
		if !filepath.IsAbs(v) || filepath.Clean(v) != v || v == "/" {
			return faultf("path is %s, but must be an absolute file name", quote(v)).withHint("leave it out for a file among the app's logs")
		}
		return nil
	})
	keys["format"] = r.word(&dst.Format, "format", gapless.AccessFormats())
	keys["query"] = r.boolean(&dst.Query, "query")
	return keys
}

func explainAccessLog(l *gapless.AccessLog) any {
	if l == nil {
		return false
	}
	out := map[string]any{"format": l.Format, "query": l.Query, "max_size": size(l.MaxSize), "max_age": l.MaxAge.String(), "keep": l.Keep}
	if l.Path != "" {
		out["path"] = l.Path
	}
	return out
}
