package cli

import (
	"fmt"
	"strings"
	"time"

	"gapless"
)

// lessTime is how long a proof may take before there is too little traffic
// for it.
const lessTime = time.Hour

// undecidedLines say what a person can do about a rollout that waits because
// nothing was proven in time; none where it waits for something else. The
// judge goes on meanwhile, and the plan does where the proof comes after all.
func undecidedLines(r gapless.Rollout) []string {
	v := r.Verdict
	if r.Outcome != gapless.Running || !strings.HasPrefix(r.Waiting, r.To+" is undecided after ") || v != nil && v.Kind != gapless.Undecided {
		return nil
	}
	const synthetic = "requests that gapless makes: judge: { synthetic: { path: / } }"
	if v == nil || v.NoData {
		return []string{"  it is judged on while it waits · next time: " + synthetic}
	}
	less := fmt.Sprintf("a wider margin: judge: { %s: … }", gapless.TestErrors)
	if test := hardest(v); test != "" && test != gapless.TestErrors {
		less = fmt.Sprintf("judge: { %s: off } or a wider margin", test)
	}
	text := "  next time: " + less + ", or more time: gapless deploy --until-decided 2h"
	if r.Missing.For == 0 || r.Missing.For.Std() > lessTime {
		text += ", or " + synthetic
	}
	return []string{"  it is judged on while it waits, and goes on by itself once that is proven", text}
}

// hardest is what a proof needs most requests for; "" if nothing is open.
func hardest(v *gapless.Verdict) (test gapless.VerdictTest) {
	most := uint64(0)
	for _, p := range v.Proofs {
		if !p.Proven && (test == "" || p.Needed == 0 || most > 0 && p.Needed >= most) { // 0: nobody knows how many
			test, most = p.Test, p.Needed
		}
	}
	return test
}
