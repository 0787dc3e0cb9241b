package judge_test

import (
	"math"
	"strconv"
	"testing"

	"gapless"
	"gapless/internal/judge"
)

// The expected numbers of this file were computed by an independent program
// and, ten of them, once more with 50 decimal digits.

type counts struct {
	weight            float64
	candidate, stable uint64 // bad answers
}

func TestErrorsVectors(t *testing.T) {
	for _, v := range []struct {
		counts
		lnE   float64
		e     string
		worse bool
	}{
		{counts{0.01, 1, 0}, 3.615169335021, "37.15763748", false},
		{counts{0.01, 2, 0}, 7.782454372953, "2398.153567", true},
		{counts{0.05, 2, 0}, 5.215175712396, "184.044157", true},
		{counts{0.05, 3, 0}, 8.046641050161, "3123.28637", true},
		{counts{0.10, 1, 0}, 1.933308850019, "6.912344354", false},
		{counts{0.10, 2, 0}, 4.033885059561, "56.47991338", false},
		{counts{0.10, 3, 0}, 6.203915523355, "494.6821937", true},
		{counts{0.10, 3, 1}, 3.954874624788, "52.18915031", false},
		{counts{0.10, 4, 1}, 5.963841439540, "389.1019687", true},
		{counts{0.10, 5, 5}, 3.656253958787, "38.71603901", false},
		{counts{0.10, 10, 20}, 4.080749008255, "59.18978689", false},
		{counts{0.10, 100, 900}, -8.924842017689, "0.0001330424886", false},
		{counts{0.50, 6, 0}, 3.795282480042, "44.49080239", false},
		{counts{0.50, 7, 0}, 4.454296061072, "85.99559389", false},
		{counts{0.50, 8, 0}, 5.116889318245, "166.8156513", true},
		{counts{0.50, 20, 4}, 4.223663614097, "68.28318985", false},
		{counts{0.10, 0, 10}, -2.703979035126, "0.06693863096", false},
	} {
		got := seen(t, judge.Config{}, v.counts).Verdict(v.weight)
		near(t, v.counts, got.Evidence.LnE, v.lnE)
		if e := strconv.FormatFloat(math.Exp(got.Evidence.LnE), 'g', 10, 64); e != v.e {
			t.Errorf("%+v: evidence %s, want %s", v.counts, e, v.e)
		}
		if (got.Kind == gapless.Worse) != v.worse {
			t.Errorf("%+v: %s", v.counts, got.Kind)
		}
	}
}

// The weight changes while the evidence goes on.
func TestErrorsVectorsOfWeightSteps(t *testing.T) {
	j := seen(t, judge.Config{})
	for _, v := range []struct {
		counts
		lnE float64
	}{
		{counts{0.01, 1, 3}, 1.564559803564},
		{counts{0.05, 2, 2}, 4.412875783980},
		{counts{0.25, 3, 1}, 6.262467201686},
	} {
		j = j.Observe(v.tallies())
		near(t, v.counts, j.Verdict(v.weight).Evidence.LnE, v.lnE)
	}
}

func TestErrorsVectorOfRatio(t *testing.T) {
	c := counts{0.10, 4, 3}
	near(t, c, seen(t, judge.Config{Ratio: 1.25}, c).Verdict(0.1).Evidence.LnE, 2.771726390799)
}

func TestGuardVectors(t *testing.T) {
	for _, v := range []struct {
		bad, good uint64
		lnE       float64
	}{
		{1, 9, 0.749994707023},
		{3, 7, 6.459458203509},
		{2, 98, -0.863533266364},
		{10, 190, 6.468407589058},
	} {
		j := seen(t, judge.Config{PMax: 0.01}).Observe([]gapless.Tally{{Release: "v2", Weight: 1, Requests: v.bad + v.good, Bad: v.bad}})
		got := j.Verdict(1)
		near(t, v, got.Evidence.LnE, v.lnE)
		if got.Test != gapless.TestGuard {
			t.Errorf("%+v: test %s", v, got.Test)
		}
	}
}

// How many bad answers of the candidate decide, by stable's bad answers so
// far, at a false-alarm rate of 1 %.
func TestFewestBadAnswersThatDecide(t *testing.T) {
	stable := []uint64{0, 1, 2, 5, 10, 20, 50, 100}
	for weight, want := range map[float64][]uint64{
		0.01: {2, 2, 2, 3, 3, 4, 5, 7},
		0.05: {2, 3, 3, 4, 6, 7, 11, 17},
		0.1:  {3, 4, 5, 6, 8, 11, 18, 28},
		0.25: {4, 6, 8, 11, 15, 22, 39},
		0.5:  {8, 13, 16, 24, 34, 51},
		0.9:  {48},
	} {
		for i, w := range want {
			j := seen(t, judge.Config{}, counts{weight, 0, stable[i]})
			if got := j.Verdict(weight).Needed.Bad; got != w {
				t.Errorf("weight %v, stable %d bad: %d more decide, want %d", weight, stable[i], got, w)
			}
		}
	}
}

// seen is a judge of v2 against v1 that saw some bad answers, and no good ones.
func seen(t *testing.T, c judge.Config, all ...counts) judge.Judge {
	t.Helper()
	c.Candidate, c.Stable = "v2", "v1"
	j, err := judge.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range all {
		j = j.Observe(x.tallies())
	}
	return j
}

func (c counts) tallies() []gapless.Tally {
	return []gapless.Tally{
		{Release: "v2", Weight: c.weight, Requests: c.candidate, Bad: c.candidate},
		{Release: "v1", Weight: c.weight, Requests: c.stable, Bad: c.stable},
	}
}

func near(t *testing.T, what any, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) < 1e-9) {
		t.Errorf("%+v: ln E %.12f, want %.12f", what, got, want)
	}
}
