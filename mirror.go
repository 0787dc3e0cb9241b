package gapless

import (
	"cmp"
	"slices"
	"strings"
)

// Mirror says how requests are copied to a candidate that serves nobody yet,
// and what its answers are compared by. What is zero has its default.
type Mirror struct {
	Share         float64  `json:"share,omitempty"`          // of the safe requests, 0…1
	For           Duration `json:"for,omitempty"`            // how long one step mirrors
	Compare       string   `json:"compare,omitempty"`        // CompareBody, CompareStatus or CompareNothing
	Ignore        []string `json:"ignore,omitempty"`         // parts of JSON bodies that may differ, see MirrorPath
	Timeout       Duration `json:"timeout,omitempty"`        // of one copy, from its start to the end of its answer
	Header        string   `json:"header,omitempty"`         // that tells a copy from a request
	Value         string   `json:"value,omitempty"`          // of Header
	NoCredentials bool     `json:"no_credentials,omitempty"` // copies have no Cookie and no Authorization
	OnDifference  string   `json:"on_difference,omitempty"`  // OnUndecidedPause, …: at the end, where answers differ or too few were compared
	Then          string   `json:"then,omitempty"`           // strategy after a dark launch
}

// What of two answers is compared.
const (
	CompareBody    = "body"   // status, media type and, where both are JSON, the body
	CompareStatus  = "status" // status and media type
	CompareNothing = "nothing"
)

// MirrorHeader is what copies carry unless the app says otherwise.
const MirrorHeader, MirrorValue = "X-Gapless-Mirror", "1"

// MirrorRoute copies a share of an app's safe requests to a release. Their
// answers reach nobody, and are no evidence of any coin.
type MirrorRoute struct {
	Rollout       string   `json:"rollout"` // counts begin anew with another one
	Release       string   `json:"release"` // that gets the copies
	Share         float64  `json:"share"`   // over 0, at most 1
	Compare       string   `json:"compare"`
	Ignore        []string `json:"ignore,omitempty"`
	Timeout       Duration `json:"timeout"`
	Header        string   `json:"header"`
	Value         string   `json:"value"`
	NoCredentials bool     `json:"no_credentials,omitempty"`
}

// Validate checks what an edge relies on.
func (m *MirrorRoute) Validate() error {
	switch {
	case m.Release == "":
		return Errorf(Invalid, "mirror: no release")
	case !(m.Share > 0 && m.Share <= 1):
		return Errorf(Invalid, "mirror to %s: share %v is not over 0 and at most 1", m.Release, m.Share)
	case !slices.Contains([]string{CompareBody, CompareStatus, CompareNothing}, m.Compare):
		return Errorf(Invalid, "mirror to %s: unknown comparison %q", m.Release, m.Compare)
	case m.Timeout <= 0:
		return Errorf(Invalid, "mirror to %s: a copy must have a timeout", m.Release)
	case m.Header == "" || strings.ContainsAny(m.Header+m.Value, "\r\n\x00") || strings.ContainsAny(m.Header, ": \t"):
		return Errorf(Invalid, "mirror to %s: %q is not a header", m.Release, m.Header+": "+m.Value)
	}
	for _, path := range m.Ignore {
		if _, err := MirrorPath(path); err != nil {
			return err
		}
	}
	return nil
}

// MirrorPath reads a path into a JSON body: segments that each follow a slash
// name the key of an object or the index of an array, "*" any of them, and ~1
// and ~0 stand for / and ~. It names all that is below it; "/" is everything.
func MirrorPath(path string) ([]string, error) {
	if path == "/" {
		return nil, nil
	}
	bad := func(why string) error {
		return Errorf(Invalid, "path %q %s", path, why).WithHint("write it as /items/*/updatedAt: a slash before each key, * for any key or index")
	}
	rest, ok := strings.CutPrefix(path, "/")
	switch {
	case !ok:
		return nil, bad("does not begin with /")
	case len(path) > maxMirrorPath:
		return nil, bad("is too long")
	}
	segments := strings.Split(rest, "/")
	for i, s := range segments {
		switch {
		case s == "":
			return nil, bad("has an empty part")
		case s != "*" && strings.Contains(s, "*"):
			return nil, bad("has a * beside other characters; it stands for one whole part")
		case strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(s), "~"):
			return nil, bad("has a ~ that is neither ~0 (for ~) nor ~1 (for /)")
		}
		segments[i] = strings.ReplaceAll(strings.ReplaceAll(s, "~1", "/"), "~0", "~")
	}
	return segments, nil
}

const maxMirrorPath = 200 // bytes

// MirrorTraffic is what one edge process counted of the copies for one
// rollout. It only grows.
type MirrorTraffic struct {
	App     string `json:"app"`
	Rollout string `json:"rollout"`
	MirrorCounts
}

// MirrorCounts says what became of copies.
type MirrorCounts struct {
	Release   string `json:"release"`           // that got them
	Copied    uint64 `json:"copied"`            // requests that were to be copied; an answer of stable is known
	Dropped   uint64 `json:"dropped"`           // of these not sent: too many waited, or for too long, or nobody was healthy
	Answered  uint64 `json:"answered"`          // with a whole answer in time
	Failed    uint64 `json:"failed"`            // no connection, no whole answer, or none in time
	Compared  uint64 `json:"compared"`          // of those answered: with what stable had answered
	Different uint64 `json:"different"`         // of those compared or failed: by chance or not
	Pairs     uint64 `json:"pairs"`             // of those compared or failed: stable was asked once more, and answered
	Noisy     uint64 `json:"noisy"`             // of Pairs: stable differed from itself
	Large     uint64 `json:"large,omitempty"`   // compared without their bodies: larger than the limit
	Encoded   uint64 `json:"encoded,omitempty"` // compared without their bodies: in an encoding that is not read

	Differences []MirrorDifference `json:"differences,omitempty"` // those that say most first, and not all if they are many
	More        uint64             `json:"more,omitempty"`        // differences at places that are not kept
}

// MirrorDifference is one way in which answers differ, at one place.
type MirrorDifference struct {
	Path      string `json:"path"`             // "status", "type", "answer", or into the JSON body, with * for every index
	Kind      string `json:"kind"`             // "value", "missing", "added", "length", or as "number → string"
	Seen      uint64 `json:"seen"`             // copies that showed it
	Candidate uint64 `json:"candidate"`        // of Pairs: only the candidate differed so from stable's answer
	Stable    uint64 `json:"stable"`           // of Pairs: only stable did, asked once more
	Example   string `json:"example"`          // of what request, and how; strings are told by their length
	Proven    bool   `json:"proven,omitempty"` // more than stable's own noise
}

// Progress grows with everything that is counted.
func (c MirrorCounts) Progress() uint64 {
	return c.Copied + c.Dropped + c.Answered + c.Failed + c.Compared + c.Pairs
}

// MostDifferences is how many differences are reported.
const MostDifferences = 16

// Plus adds up what two edge processes counted.
func (c MirrorCounts) Plus(o MirrorCounts) MirrorCounts {
	c.Release = cmp.Or(c.Release, o.Release)
	c.Copied, c.Dropped, c.Answered, c.Failed = c.Copied+o.Copied, c.Dropped+o.Dropped, c.Answered+o.Answered, c.Failed+o.Failed
	c.Compared, c.Different, c.Pairs, c.Noisy = c.Compared+o.Compared, c.Different+o.Different, c.Pairs+o.Pairs, c.Noisy+o.Noisy
	c.Large, c.Encoded, c.More = c.Large+o.Large, c.Encoded+o.Encoded, c.More+o.More
	c.Differences = slices.Clone(c.Differences)
	for _, d := range o.Differences {
		k := slices.IndexFunc(c.Differences, func(x MirrorDifference) bool { return x.Path == d.Path && x.Kind == d.Kind })
		if k < 0 {
			c.Differences = append(c.Differences, d)
			continue
		}
		x := &c.Differences[k]
		x.Seen, x.Candidate, x.Stable = x.Seen+d.Seen, x.Candidate+d.Candidate, x.Stable+d.Stable
	}
	SortDifferences(c.Differences)
	return c
}

// SortDifferences puts those first that stable shows least and the candidate most.
func SortDifferences(list []MirrorDifference) {
	excess := func(d MirrorDifference) int64 { return int64(d.Candidate) - int64(d.Stable) }
	slices.SortFunc(list, func(a, b MirrorDifference) int {
		return cmp.Or(cmp.Compare(excess(b), excess(a)), cmp.Compare(b.Seen, a.Seen), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Kind, b.Kind))
	})
}

// Equal reports whether two counts are the same.
func (c MirrorCounts) Equal(o MirrorCounts) bool {
	a, b := c, o
	a.Differences, b.Differences = nil, nil
	return a.same(b) && slices.Equal(c.Differences, o.Differences)
}

func (c MirrorCounts) same(o MirrorCounts) bool {
	return c.Release == o.Release && c.Copied == o.Copied && c.Dropped == o.Dropped && c.Answered == o.Answered && c.Failed == o.Failed &&
		c.Compared == o.Compared && c.Different == o.Different && c.Pairs == o.Pairs && c.Noisy == o.Noisy &&
		c.Large == o.Large && c.Encoded == o.Encoded && c.More == o.More
}
