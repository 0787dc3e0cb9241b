package config

import (
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gapless"

	"github.com/goccy/go-yaml/ast"
)

// What the file says of limits, timeouts and error pages.

func (r *reader) limits(dst *gapless.Limits) setter {
	return func(n ast.Node) {
		keys, rated := r.limitKeys(dst), false
		rate := keys["requests_per_ip"]
		keys["requests_per_ip"] = func(n ast.Node) {
			rated = true
			rate(n)
		}
		r.object(n, "limits", keys)
		if dst.Burst > 0 && !rated {
			r.fail(n, faultf("burst says nothing without requests_per_ip").withHint("add requests_per_ip: 50, or remove burst"))
		}
	}
}

func (r *reader) limitKeys(dst *gapless.Limits) map[string]setter {
	return map[string]setter{
		"body":               r.size(&dst.Body, "body", 1),
		"body_rate":          r.size(&dst.BodyRate, "body_rate", 1),
		"header_size":        r.sizeUpTo(&dst.HeaderSize, "header_size", 512, gapless.MaxHeaderSize),
		"headers":            r.whole(&dst.Headers, "headers", 1, gapless.MaxHeaders),
		"connections":        r.whole(&dst.Connections, "connections", 1, 1<<20),
		"connections_per_ip": r.whole(&dst.ConnectionsPerIP, "connections_per_ip", 1, 1<<20),
		"requests_per_ip":    r.rate(&dst.RequestsPerIP, "requests_per_ip"),
		"burst":              r.whole(&dst.Burst, "burst", 1, 1<<20),
		"exempt":             r.exempt(&dst.Exempt),
		"held":               r.whole(&dst.Held, "held", 1, 1<<20),
		"held_size":          r.size(&dst.HeldSize, "held_size", 64<<10),
	}
}

func (r *reader) timeouts(dst *gapless.Timeouts) setter {
	return func(n ast.Node) { r.object(n, "timeouts", r.timeoutKeys(dst)) }
}

func (r *reader) timeoutKeys(dst *gapless.Timeouts) map[string]setter {
	const least, most = time.Second, 24 * time.Hour
	return map[string]setter{
		"head":   r.duration(&dst.Head, "head", least, most),
		"idle":   r.duration(&dst.Idle, "idle", least, most),
		"body":   r.duration(&dst.Body, "body", least, most),
		"answer": r.duration(&dst.Answer, "answer", least, most),
		"write":  r.duration(&dst.Write, "write", least, most),
		"total":  r.duration(&dst.Total, "total", least, most),
	}
}

// sizeUpTo reads a size between lo and hi bytes, both allowed.
func (r *reader) sizeUpTo(dst *int64, what string, lo, hi int64) setter {
	read := r.size(dst, what, lo)
	return func(n ast.Node) {
		if read(n); *dst > hi {
			r.fail(n, faultf("%s is %s, but must be at most %s", what, size(*dst), size(hi)))
			*dst = 0
		}
	}
}

// rate reads a number per second.
func (r *reader) rate(dst *float64, what string) setter {
	return func(n ast.Node) {
		s, ok := r.scalar(n, what)
		if !ok {
			return
		}
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !numberForm.MatchString(s) || v < 0.001 || v > 1e6 {
			r.fail(n, faultf("%s is %s, but must be a number of requests per second", what, quote(s)).withHint("write 50, or 0.5 for one in two seconds"))
			return
		}
		*dst = v
	}
}

func (r *reader) exempt(dst *[]string) setter {
	list := r.list(dst, "exempt", func(s string) (string, *fault) {
		if s == gapless.ExemptLoopback || s == gapless.ExemptNone {
			return s, nil
		}
		p, err := gapless.Network(s)
		if err != nil {
			return "", faultf("%s", err).withHint("write 10.0.0.1, 10.0.0.0/8, %s, or %s alone", gapless.ExemptLoopback, gapless.ExemptNone)
		}
		if p.IsSingleIP() {
			return p.Addr().String(), nil
		}
		return p.String(), nil
	})
	return func(n ast.Node) {
		if list(n); slices.Contains(*dst, gapless.ExemptNone) && len(*dst) > 1 {
			r.fail(n, faultf("exempt lists none beside others").withHint("write exempt: none, or the others alone"))
		}
	}
}

// errorPages reads a map of statuses and files.
func (r *reader) errorPages(dst *map[int]string) setter {
	return func(n ast.Node) {
		pages := map[int]string{}
		r.each(n, "error_pages", func(key string, at ast.MapKeyNode, value ast.Node) {
			status, err := strconv.Atoi(key)
			if err != nil || !slices.Contains(gapless.ErrorStatuses(), status) {
				r.problems.add(r.at(at.GetToken()), faultf("%s is no status that gapless answers by itself", quote(key)).
					withHint("there are %s", statuses()))
				return
			}
			var file string
			r.str(&file, key, checkPageFile)(value)
			if file != "" {
				pages[status] = path.Clean(file)
			}
		})
		if len(pages) > 0 {
			*dst = pages
		}
	}
}

func statuses() string {
	var out []string
	for _, n := range gapless.ErrorStatuses() {
		out = append(out, strconv.Itoa(n))
	}
	return strings.Join(out, ", ")
}

func checkPageFile(s string) *fault {
	switch {
	case strings.ContainsRune(s, 0), strings.TrimSpace(s) == "":
		return faultf("%s is not a file name", quote(s))
	case !filepath.IsLocal(s):
		return faultf("%s is not inside the app's directory", quote(s)).withHint("pages are part of a release: write pages/503.html")
	case gapless.PageType(path.Ext(s)) == "":
		return faultf("%s is of no kind that a page can be", quote(s)).withHint("its name must end in %s", strings.Join(gapless.PageExtensions(), ", "))
	}
	return nil
}

// limitForms, timeoutForms and pageForm describe the values for editors.
func limitForms() map[string]schema {
	return map[string]schema{
		"body": about("largest request body", sizeOf()), "body_rate": about("bytes per second that a request body must keep", sizeOf()),
		"header_size": about("largest request head, at most 16K", sizeOf()), "headers": about("most header fields of a request", whole(1, gapless.MaxHeaders)),
		"connections": about("most connections of the address", whole(1, 1<<20)), "connections_per_ip": about("most connections of one client", whole(1, 1<<20)),
		"requests_per_ip": about("requests per second of one client", schema{"type": "number", "exclusiveMinimum": 0}), "burst": about("requests of one client at once, before that counts", whole(1, 1<<20)),
		"exempt": about("clients that limits per IP do not touch: addresses, networks, loopback; none", oneOrMore(someText())),
		"held":   about("most requests that wait", whole(1, 1<<20)), "held_size": about("bytes that they may take", sizeOf()),
	}
}

func timeoutForms() map[string]schema {
	return map[string]schema{
		"head": about("of a request's head", durationForm()), "idle": about("of a kept connection", durationForm()), "body": about("without a byte of a request's body", durationForm()),
		"answer": about("until the head of the answer", durationForm()), "write": about("for the client to take what it is sent", durationForm()), "total": about("of a request, until its answer has ended", durationForm()),
	}
}

func pageForm() schema {
	props := schema{}
	for _, status := range gapless.ErrorStatuses() {
		props[strconv.Itoa(status)] = someText()
	}
	return schema{"type": "object", "properties": props, "additionalProperties": false, "minProperties": 1}
}

// limitsShown, timeoutsShown and pagesShown are what would be written.
func limitsShown(l gapless.Limits) map[string]any {
	out := map[string]any{}
	for key, n := range map[string]int64{"body": l.Body, "body_rate": l.BodyRate, "header_size": l.HeaderSize, "held_size": l.HeldSize} {
		if n > 0 {
			out[key] = size(n)
		}
	}
	for key, n := range map[string]int{"headers": l.Headers, "connections": l.Connections, "connections_per_ip": l.ConnectionsPerIP, "burst": l.Burst, "held": l.Held} {
		if n > 0 {
			out[key] = n
		}
	}
	if l.RequestsPerIP > 0 {
		out["requests_per_ip"] = l.RequestsPerIP
	}
	if len(l.Exempt) > 0 {
		out["exempt"] = l.Exempt
	}
	return out
}

func timeoutsShown(t gapless.Timeouts) map[string]any {
	out := map[string]any{}
	for key, d := range map[string]gapless.Duration{"head": t.Head, "idle": t.Idle, "body": t.Body, "answer": t.Answer, "write": t.Write, "total": t.Total} {
		if d > 0 {
			out[key] = d.String()
		}
	}
	return out
}

func pagesShown(pages map[int]string) map[string]any {
	out := map[string]any{}
	for status, file := range pages {
		out[strconv.Itoa(status)] = file
	}
	return out
}
