package gapless

import "time"

// EdgeReport is what one edge generation says about itself: which table it
// serves and what is in flight. Counts are cumulative for the generation.
type EdgeReport struct {
	Generation  int               `json:"generation"`
	Start       string            `json:"start"`    // random, of this very process: a generation's number may come again
	Seq         uint64            `json:"seq"`      // of this process's reports; a greater one is newer
	Made        time.Duration     `json:"made"`     // when, in nanoseconds of the machine's monotonic clock
	Version     uint64            `json:"version"`  // of the table that new requests are routed by
	Draining    bool              `json:"draining"` // it accepts no new connections
	Connections int               `json:"connections"`
	Instances   []InstanceTraffic `json:"instances"`
	Releases    []ReleaseTraffic  `json:"releases"`
	Counters    []Counter         `json:"counters,omitempty"`  // cumulative; of routes that share traffic between two releases
	TLS         *TLSTraffic       `json:"tls,omitempty"`       // nil: no address speaks https
	Logs        []LogTraffic      `json:"logs,omitempty"`      // access logs
	FellBack    []string          `json:"fell_back,omitempty"` // apps whose lease ran out, so that they are served by Route.Fallback
	Mirrors     []MirrorTraffic   `json:"mirrors,omitempty"`   // of apps whose requests are copied now, or were a moment ago
	Shed        Shed              `json:"shed,omitzero"`       // what it refused to protect itself
	Paced       map[string]uint64 `json:"paced,omitzero"`      // per app: version of the limits of age that it counts by; nil: it knows of no such limits
}

// Shed counts what an edge process refused to protect itself. It is nobody's
// evidence.
type Shed struct {
	Connections uint64 `json:"connections,omitempty"` // over a limit of connections
	Requests    uint64 `json:"requests,omitempty"`    // over the requests per second of their address
	Overload    uint64 `json:"overload,omitempty"`    // requests for which there was no memory or descriptor
	Holds       uint64 `json:"holds,omitempty"`       // requests for which there was no place to wait
}

// Counter is evidence about one app: what the coin gave to one release, and
// how it ended. It only grows. It is reported until it can grow no more and
// was acknowledged; then it is freed, and what comes after all gets another
// number. So an edge never uses a number twice.
type Counter struct {
	Number   uint64  `json:"n"` // of the edge process
	App      string  `json:"app"`
	Version  uint64  `json:"version"` // of the table that brought the app's route; 0: of several
	Release  string  `json:"release"` // that the coin chose
	Instance string  `json:"instance,omitempty"`
	Weight   float64 `json:"weight"`            // the candidate's share when the coin was tossed, 0…1
	Kind     string  `json:"kind,omitempty"`    // "": a good answer; else 5xx, refused, reset, timeout, …
	Session  string  `json:"session,omitempty"` // SessionNew, …; "": the coin was of this request alone
	Requests uint64  `json:"requests"`          // finished or found bad
	Bad      uint64  `json:"bad"`
	Late     uint64  `json:"late,omitempty"` // of Bad: their requests had been counted as good before

	Paces Paces `json:"paces,omitzero"` // by limits of age; those of requests that have not ended are in it, so that both only grow
}

// What a counter's requests are to the sessions that they belong to, whose
// coin was tossed once. The requests of one session depend on one another: what
// is independent is a session, which comes with its first request, and may turn
// bad once.
const (
	SessionNew    = "new"     // good answers to the first requests of their sessions
	SessionNewBad = "new-bad" // bad answers to them
	SessionMore   = "more"    // good answers to requests that came later in their sessions
	SessionLate   = "late"    // first bad answers of sessions that began with a good one
	SessionAgain  = "again"   // bad answers of sessions that had one before

	// Edges of an earlier version do not tell first requests from later ones.
	SessionGood  = "good"  // good answers
	SessionFirst = "first" // first bad answers of their sessions
)

// InstanceTraffic is what goes through one instance. An instance that left
// the table is reported until its in-flight count is 0.
type InstanceTraffic struct {
	App      string `json:"app"`
	Instance string `json:"instance"`
	InFlight int    `json:"in_flight"` // requests and upgraded connections not yet finished
	Upgraded int    `json:"upgraded"`  // of these: WebSockets and other upgraded connections
	Healthy  bool   `json:"healthy"`   // by the edge's own probes
	Requests uint64 `json:"requests"`

	Refused    int      `json:"refused,omitempty"`     // connections refused in a row, by requests and probes
	RefusedFor Duration `json:"refused_for,omitempty"` // since the first of them

	Failed    int      `json:"failed,omitempty"`     // tries in a row that found no connection, or lost it, or got no answer in time
	FailedFor Duration `json:"failed_for,omitempty"` // since the first of them
	Ejected   Duration `json:"ejected,omitempty"`    // it is given nothing for so long from now on
	Ejections uint64   `json:"ejections,omitempty"`

	Bad     uint64   `json:"bad,omitempty"`     // bad answers to requests that it was given, see Tally
	Latency []uint64 `json:"latency,omitempty"` // counts per bucket, without zeros at the end; see LatencyBucket. About once per second
}

// Fails reports whether an instance fails in what lies between it and the
// edge, and not just for a moment: what it answers is not asked.
func (t InstanceTraffic) Fails() bool {
	return t.Failed >= EjectAfter && t.FailedFor >= refusedFor
}

// EjectAfter is how many tries in a row must fail before an instance is left alone.
const EjectAfter = 3

// Refuses reports whether an instance refuses connections for good, and not
// just for the moment in which its listener is made anew.
func (t InstanceTraffic) Refuses() bool {
	return t.Refused >= refusals && t.RefusedFor >= refusedFor
}

const (
	refusals   = 3
	refusedFor = Duration(500 * time.Millisecond)
)

// Failing counts requests that failed alike.
type Failing struct {
	Method string `json:"method"`
	Path   string `json:"path"` // without query, clipped; ":id" stands for numbers, UUIDs, hashes and tokens
	Kind   string `json:"kind"` // status, as in "503"; or how there was no whole answer: reset, refused, timeout, cut, …
	Count  uint64 `json:"count"`
}

// ReleaseTraffic counts what the coin gave to one release.
type ReleaseTraffic struct {
	App      string    `json:"app"`
	Release  string    `json:"release"`
	Requests uint64    `json:"requests"`
	Status   [6]uint64 `json:"status"`            // by class: [2] is 2xx; [0] is no answer at all
	Failed   uint64    `json:"failed"`            // connect refused, reset, timeout or a malformed answer; not a client's abort
	Aborted  uint64    `json:"aborted"`           // the client went away
	Retried  uint64    `json:"retried"`           // repeated on another instance
	Spent    uint64    `json:"spent,omitempty"`   // not repeated because too many were
	Over     uint64    `json:"over,omitempty"`    // came when the release had as many in flight as it may
	Held     uint64    `json:"held"`              // waited because nothing was ready
	HeldMax  Duration  `json:"held_max"`          // the longest such wait
	Latency  []uint64  `json:"latency"`           // counts per bucket; see LatencyBucket
	Failing  []Failing `json:"failing,omitempty"` // what fails most often where a route is shared with another release, the most frequent first
}

// LogTraffic is what became of one access log's lines.
type LogTraffic struct {
	App     string `json:"app"`
	Lines   uint64 `json:"lines"`   // written
	Dropped uint64 `json:"dropped"` // because the disk was full or too slow: requests never wait for it
}

// LatencyBuckets is the length of ReleaseTraffic.Latency.
const LatencyBuckets = 112

// LatencyBucket maps a latency in microseconds to its bucket: four buckets
// per power of two, so a bucket's width is at most a quarter of its start.
func LatencyBucket(us uint64) int {
	if us < 4 {
		return int(us)
	}
	e := 0
	for v := us; v >= 8; v >>= 1 {
		e++
	}
	b := 4 + e*4 + int(us>>e&3)
	return min(b, LatencyBuckets-1)
}

// LatencyBucketStart is the smallest latency in microseconds of bucket b.
func LatencyBucketStart(b int) uint64 {
	if b < 4 {
		return uint64(b)
	}
	e := (b - 4) / 4
	return uint64(4+(b-4)%4) << e
}

// Quantile returns the latency in microseconds below which a share q of the
// counted requests ended (start of the bucket that holds it), 0 if none.
func Quantile(latency []uint64, q float64) uint64 {
	var total, n uint64
	for _, c := range latency {
		total += c
	}
	if total == 0 {
		return 0
	}
	for b, c := range latency {
		n += c
		if float64(n) >= q*float64(total) {
			return LatencyBucketStart(b)
		}
	}
	return LatencyBucketStart(len(latency) - 1)
}
