package gapless

import (
	"fmt"
	"strconv"
	"time"
)

// Rollout is the journey of traffic from the stable release to a candidate.
type Rollout struct {
	ID         string        `json:"id"`
	App        string        `json:"app"`
	Kind       string        `json:"kind"`           // "up", "deploy", "restart", "scale"
	From       string        `json:"from,omitempty"` // stable release; "" on the first
	To         string        `json:"to"`             // candidate
	Plan       []Step        `json:"plan"`
	Cursor     int           `json:"cursor"` // index of the current step
	Outcome    Outcome       `json:"outcome"`
	Reason     string        `json:"reason,omitempty"` // why it was taken back or failed
	Hint       string        `json:"hint,omitempty"`
	Started    time.Time     `json:"started"`
	Finished   time.Time     `json:"finished,omitzero"`
	Instance   string        `json:"instance,omitempty"`   // label of the instance that failed it
	LogTail    []string      `json:"log_tail,omitempty"`   // last lines of that instance
	Failing    []Failing     `json:"failing,omitempty"`    // which requests failed most often at the candidate; told, not saved
	Complaints []LogCount    `json:"complaints,omitempty"` // what its instances wrote most often about trouble; told, not saved
	Launched   bool          `json:"launched"`             // an instance of the candidate had started
	Strategy   string        `json:"strategy,omitempty"`
	Verdict    *Verdict      `json:"verdict,omitempty"` // the latest
	Course     []Moment      `json:"course,omitempty"`  // how the verdict came about, see Along; never changed, only replaced
	Waiting    string        `json:"waiting,omitempty"` // why it waits for a person; "" if it does not
	Weight     float64       `json:"weight"`            // the candidate's share now
	Mirror     *MirrorCounts `json:"mirror,omitempty"`  // what became of copies of requests, if any were made
	By         string        `json:"by,omitempty"`      // who asked for it, from the audit; told, not saved
	Auto       bool          `json:"auto,omitempty"`    // no person asked for it: what was promoted failed while it was watched, see Reason
	Missing    Missing       `json:"missing,omitzero"`  // what a proof that the candidate is not worse needs still

	Metrics []MetricResult `json:"metrics,omitempty"` // from outside, that the candidate is judged by; in the order of its configuration
}

// LogCount is a line that was written again and again, but for numbers in it.
type LogCount struct {
	Text  string `json:"text"` // of the first one
	Count int    `json:"count"`
}

// BackID is the ID of the rollout that takes back what the rollout id promoted,
// where the watch after it finds it broken.
func BackID(id string) string { return id + "-back" }

// Missing is what a proof needs still; zero where that is not known.
type Missing struct {
	Requests uint64   `json:"requests,omitempty"` // about so many good ones of the candidate
	For      Duration `json:"for,omitempty"`      // that they take at the present rate and share
}

// Outcome is how a rollout ended, or Running.
type Outcome string

const (
	Running        Outcome = "running"
	Promoted       Outcome = "promoted"    // the candidate is stable now
	TakenBack      Outcome = "rolled_back" // the old release serves
	NothingStarted Outcome = "failed"      // failed before an instance of the candidate had started, or with no release to go back to
)

// Step is one step of a plan. Only the fields that its Kind names are set.
type Step struct {
	Kind    StepKind `json:"kind"`
	Process string   `json:"process,omitempty"`
	N       int      `json:"n,omitempty"`      // start, drain: how many instances
	Weight  float64  `json:"weight,omitempty"` // weight: share of the candidate; 0 means by ready share. mirror: of the requests that are copied
	For     Duration `json:"for,omitempty"`    // judge, keep: at most; pause, mirror: how long, 0 until a person resumes

	OnUndecided string `json:"on_undecided,omitempty"` // judge: what to do when For is over. mirror: where answers differ, or too few were compared
	Note        string `json:"note,omitempty"`         // for people
	Run         string `json:"run,omitempty"`          // hook: command line, run in the candidate's tree and environment
	OnResume    string `json:"on_resume,omitempty"`    // hook: "rerun", "fail" or "ask" when the daemon died while it ran; default fail
}

// StepKind names what a step does.
type StepKind string

const (
	StepStart   StepKind = "start"   // start N more instances of the candidate
	StepWarm    StepKind = "warm"    // wait until every started instance is ready
	StepWeight  StepKind = "weight"  // give the candidate its share, read back
	StepJudge   StepKind = "judge"   // watch for For
	StepDrain   StepKind = "drain"   // drain and stop N instances of the old set
	StepSwap    StepKind = "swap"    // singletons: stop the old one, start the new one
	StepPromote StepKind = "promote" // the candidate becomes stable
	StepScale   StepKind = "scale"   // bring the candidate to N instances
	StepPreview StepKind = "preview" // let people reach the candidate by host or header
	StepPause   StepKind = "pause"   // wait for For, or for a person
	StepHook    StepKind = "hook"    // run a command; it decides by its exit code
	StepBake    StepKind = "bake"    // watch the new release for For after promote, with the old set kept warm to go back to
	StepKeep    StepKind = "keep"    // keep the old set warm for For after promote
	StepRamp    StepKind = "ramp"    // raise the candidate's share as far as the bound on harm allows, until it is proven not worse, at most For
	StepMirror  StepKind = "mirror"  // copy requests to the candidate for For, compare its answers
)

// String writes a step for people. The plan before it runs and the rollout
// while it runs say the same words.
func (s Step) String() string {
	what := func() string {
		if s.Process == "" || s.Process == WebProcess {
			return ""
		}
		return " " + s.Process
	}
	switch s.Kind {
	case StepStart, StepScale:
		n := strconv.Itoa(s.N)
		if s.N < 0 {
			n = "max"
		}
		if s.Kind == StepScale {
			n = "to " + n
		}
		return string(s.Kind) + " " + n + what()
	case StepWarm:
		return "warm: wait until ready"
	case StepWeight:
		if s.Weight == 0 {
			return "weight: by ready share"
		}
		return "weight " + Percent(s.Weight)
	case StepJudge, StepRamp:
		if s.For == 0 && s.OnUndecided == "" { // as written, before it is in a plan
			return string(s.Kind)
		}
		text := fmt.Sprintf("judge for at most %s", s.For)
		if s.Kind == StepRamp {
			text = fmt.Sprintf("ramp: the share rises as the release is proven, for at most %s", s.For)
		}
		if s.OnUndecided != "" { // else the strategy's default, which is filled in when it runs
			text += fmt.Sprintf(", then %s if undecided", s.OnUndecided)
		}
		if s.Note != "" {
			text += " (" + s.Note + ")"
		}
		return text
	case StepPreview:
		return "preview: reachable by host, header or cookie"
	case StepPause:
		if s.For == 0 {
			return "pause until a person resumes"
		}
		return fmt.Sprintf("pause for %s", s.For)
	case StepHook:
		return "hook: " + s.Run
	case StepMirror:
		text := "mirror"
		if s.Weight > 0 {
			text += " " + Percent(s.Weight)
		}
		if s.For > 0 {
			text += fmt.Sprintf(" for %s", s.For)
		}
		if s.OnUndecided != "" {
			text += fmt.Sprintf(", then %s if the answers differ", s.OnUndecided)
		}
		return text
	case StepBake:
		return fmt.Sprintf("once promoted, watch it for %s: the old set stays warm", s.For)
	case StepKeep:
		return fmt.Sprintf("keep the old set warm for %s", s.For)
	case StepDrain:
		return fmt.Sprintf("drain %d old%s", s.N, what())
	case StepSwap:
		return "swap" + what() + ": stop the old one, start the new one"
	case StepPromote:
		return "promote"
	}
	return string(s.Kind)
}
