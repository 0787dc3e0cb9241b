package edge

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gapless"
)

// page is what an own answer says instead of its line of text.
type page struct {
	contentType string
	body        []byte
}

// dress gives an own answer the page of the app, if it has one for that.
func (l *limits) dress(o own) own {
	if o.page == nil {
		o.page = l.pages[o.status]
	}
	return o
}

func (o own) contentType() string {
	if o.page != nil {
		return o.page.contentType
	}
	return "text/plain; charset=utf-8"
}

// size is the length of the body in bytes.
func (o own) size() int {
	if o.page != nil {
		return len(o.page.body)
	}
	return len(o.text) + 1
}

// retryAfter is what the field of that name says; "": nothing.
func (o own) retryAfter() string {
	switch {
	case o.after > 0:
		return strconv.Itoa(o.after)
	case o.retry:
		return "1"
	}
	return ""
}

// closure is an app in maintenance.
type closure struct {
	own   own
	allow []netip.Prefix
}

func closureOf(m *gapless.Maintenance) *closure {
	after := m.RetryAfter.Std()
	if after == 0 {
		after = time.Minute
	}
	c := &closure{own: own{status: 503, code: "maintenance", text: "this app is being maintained", after: max(int((after+time.Second-1)/time.Second), 1)}}
	if len(m.Page) > 0 {
		c.own.page = &page{m.Type, m.Page}
	}
	for _, text := range m.Allow {
		if p, err := gapless.Network(text); err == nil {
			c.allow = append(c.allow, p)
		}
	}
	return c
}

// answer is what a client gets that is not let through.
func (c *closure) answer(x *exchange) own {
	if len(c.allow) > 0 && contains(c.allow, x.from()) {
		return own{}
	}
	return c.own
}

// pagesOf reads the error pages of a route. One that cannot be read is
// missing, which is no reason to serve nothing. e.mu is held.
func (e *Edge) pagesOf(r gapless.Route) map[int]*page {
	if len(r.ErrorPages) == 0 {
		return nil
	}
	out := map[int]*page{}
	for status, file := range r.ErrorPages {
		p, known := e.pages[file]
		if !known { // releases never change: once is enough
			var err error
			if p, err = readPage(file); err != nil {
				e.log.Warn("an error page is missing", "app", r.App, "status", status, "error", err)
			}
			e.pages[file] = p
		}
		if p != nil {
			out[status] = p
		}
	}
	return out
}

func readPage(file string) (*page, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", file)
	}
	b, err := io.ReadAll(io.LimitReader(f, gapless.MaxPage+1))
	kind := gapless.PageType(filepath.Ext(file))
	switch {
	case err != nil:
		return nil, err
	case len(b) > gapless.MaxPage:
		return nil, fmt.Errorf("%s is larger than %d KiB", file, gapless.MaxPage>>10)
	case kind == "":
		return nil, fmt.Errorf("%s is of no kind that a page can be", file)
	}
	return &page{kind, b}, nil
}

// forgetPages drops the pages that a table does not name. e.mu is held.
func (e *Edge) forgetPages(t gapless.Table) {
	named := map[string]bool{}
	for _, r := range t.Routes {
		for _, file := range r.ErrorPages {
			named[file] = true
		}
	}
	for file := range e.pages {
		if !named[file] {
			delete(e.pages, file)
		}
	}
}
