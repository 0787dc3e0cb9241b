package judge

import (
	"math"
	"strconv"
	"testing"

	"gapless"
)

// The expected numbers of this file were computed by an independent program
// and, ten of them, once more with 50 decimal digits. They are of the tests
// alone and of the grids written here, whatever the judge uses.

func near(t *testing.T, what any, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) < 1e-9) {
		t.Errorf("%+v: %.12f, want %.12f", what, got, want)
	}
}

// printed compares with a number as it was printed.
func printed(t *testing.T, what any, got float64, want string, digits int) {
	t.Helper()
	if g := strconv.FormatFloat(got, 'g', digits, 64); g != want {
		t.Errorf("%+v: %s, want %s", what, g, want)
	}
}

// errorsVector is √2^k, k = low…high, over the ratio that is fine.
func errorsVector(low, high int, ratio float64) errorsTest {
	t := errorsTest{ratio: ratio, eta: 1}
	for k := low; k <= high; k++ {
		t.steps = append(t.steps, math.Ln2/2*float64(k))
	}
	return t
}

// lnE is the evidence after bad answers of both at one weight.
func (t errorsTest) lnE(rows ...Row) float64 {
	b := t.on(rows)
	return b.lnE()
}

func badAt(weight float64, candidate, stable uint64) Row {
	return Row{Weight: weight, Candidate: gapless.Arm{Requests: candidate, Bad: candidate}, Stable: gapless.Arm{Requests: stable, Bad: stable}}
}

func TestErrorsVectors(t *testing.T) {
	test := errorsVector(1, 20, 1)
	for _, v := range []struct {
		weight            float64
		candidate, stable uint64
		lnE               float64
		e                 string
		worse             bool
	}{
		{0.01, 1, 0, 3.615169335021, "37.15763748", false},
		{0.01, 2, 0, 7.782454372953, "2398.153567", true},
		{0.05, 2, 0, 5.215175712396, "184.044157", true},
		{0.05, 3, 0, 8.046641050161, "3123.28637", true},
		{0.10, 1, 0, 1.933308850019, "6.912344354", false},
		{0.10, 2, 0, 4.033885059561, "56.47991338", false},
		{0.10, 3, 0, 6.203915523355, "494.6821937", true},
		{0.10, 3, 1, 3.954874624788, "52.18915031", false},
		{0.10, 4, 1, 5.963841439540, "389.1019687", true},
		{0.10, 5, 5, 3.656253958787, "38.71603901", false},
		{0.10, 10, 20, 4.080749008255, "59.18978689", false},
		{0.10, 100, 900, -8.924842017689, "0.0001330424886", false},
		{0.50, 6, 0, 3.795282480042, "44.49080239", false},
		{0.50, 7, 0, 4.454296061072, "85.99559389", false},
		{0.50, 8, 0, 5.116889318245, "166.8156513", true},
		{0.50, 20, 4, 4.223663614097, "68.28318985", false},
		{0.10, 0, 10, -2.703979035126, "0.06693863096", false},
	} {
		got := test.lnE(badAt(v.weight, v.candidate, v.stable))
		near(t, v, got, v.lnE)
		printed(t, v, math.Exp(got), v.e, 10)
		if (got >= math.Log(100)) != v.worse {
			t.Errorf("%+v: ln E %v", v, got)
		}
	}
	steps := []Row{badAt(0.01, 1, 3), badAt(0.05, 2, 2), badAt(0.25, 3, 1)}
	for i, lnE := range []float64{1.564559803564, 4.412875783980, 6.262467201686} { // the weight changes while the evidence goes on
		near(t, steps[:i+1], test.lnE(steps[:i+1]...), lnE)
	}
	near(t, "ratio 1.25", errorsVector(1, 20, 1.25).lnE(badAt(0.10, 4, 3)), 2.771726390799)
}

func TestRateBandVectors(t *testing.T) {
	c := Config{Phi: 1}
	for _, v := range []struct {
		weight            float64
		candidate, stable uint64
		lnMix             float64
		low, high         string
	}{
		{0.10, 0, 10, 0.267475387880, "1e-06", "4.1367124"},
		{0.10, 3, 1, 3.238607602843, "1.0986052", "7807.6307"},
		{0.10, 10, 20, 3.363821981230, "1.0545736", "15.772703"},
		{0.10, 100, 900, -3.703737130127, "0.66549885", "1.4439478"},
		{0.50, 50, 50, -3.338905186629, "0.48703583", "2.053237"},
	} {
		row := badAt(v.weight, v.candidate, v.stable)
		near(t, v, errorsVector(-20, 20, 1).lnE(row), v.lnMix)
		band := c.rateBand(0.05, 1e-12, []Row{row})
		printed(t, v, band.Low, v.low, 8)
		printed(t, v, band.High, v.high, 8)
		half := badAt(v.weight, v.candidate/2, v.stable/2) // rows of one weight are one
		rest := badAt(v.weight, v.candidate-v.candidate/2, v.stable-v.stable/2)
		if again := c.rateBand(0.05, 1e-12, []Row{half}, []Row{rest}); math.Abs(again.Low-band.Low) > 1e-9 || math.Abs(again.High/band.High-1) > 1e-9 {
			t.Errorf("%+v: %+v in halves, %+v", v, again, band)
		}
	}
}

func TestPaceVectors(t *testing.T) {
	slower := []float64{1.1, 1.2, 1.35, 1.5, 1.75, 2, 2.5, 3, 4, 6, 10, 30}
	notSlower := []float64{.95, .9, .8, .7, .6, .5, .35, .2, .1, .03}
	for _, v := range []struct {
		odds                                             []float64
		q                                                float64
		candidateSlow, candidateFast, stableSlow, stable uint64
		lnE                                              float64
	}{
		{slower, 0.50, 60, 40, 450, 450, 0.732973650731},
		{slower, 0.50, 70, 30, 450, 450, 6.048373923653},
		{slower, 0.10, 25, 75, 90, 810, 6.577946654502},
		{slower, 0.01, 4, 96, 9, 891, 1.406607117616},
		{slower, 0.01, 6, 94, 9, 891, 3.514093889026},
		{slower, 0.50, 50, 50, 450, 450, -1.719859252299},
		{notSlower, 0.50, 450, 550, 4500, 4500, 2.582311890580},
		{notSlower, 0.01, 9, 1991, 180, 17820, 2.391725601616},
	} {
		r := Row{Weight: 0.1}
		r.CandidatePaces.Worse[1] = gapless.Pace{Slow: v.candidateSlow, Fast: v.candidateFast}
		r.StablePaces.Worse[1] = gapless.Pace{Slow: v.stableSlow, Fast: v.stable}
		b := paceTest{oddsOf(v.q, v.odds...), v.q, 1}.on([]Row{r}, 1, (*Row).worse)
		near(t, v, b.lnE(), v.lnE)
		r.CandidatePaces.Margin, r.StablePaces.Margin = r.CandidatePaces.Worse, r.StablePaces.Worse
		r.CandidatePaces.Worse = [gapless.Quantiles]gapless.Pace{}
		b = paceTest{oddsOf(v.q, v.odds...), v.q, 1}.on([]Row{r}, 1, (*Row).margin)
		near(t, v, b.lnE(), v.lnE)
	}
}

func TestExcessVectors(t *testing.T) {
	test := excessTest{[]float64{.02, .05, .1, .2, .4, .7, .95}, 1}
	for _, v := range []struct {
		delta                       float64
		good, candidateBad, stables uint64
		lnE                         float64
	}{
		{0.005, 8000, 0, 0, 2.331750662886},
		{0.005, 9990, 1, 9, 1.906198102902},
		{0.010, 9900, 10, 90, 1.557035580221},
		{0.001, 40000, 0, 4, 2.671276814258},
		{0.005, 1000, 5, 0, -0.920431200205},
	} {
		r := Row{Weight: 0.1, Candidate: gapless.Arm{Requests: 500 + v.candidateBad, Bad: v.candidateBad}, Stable: gapless.Arm{Requests: v.good - 500 + v.stables, Bad: v.stables}}
		b := test.on([]Row{r}, v.delta)
		near(t, v, b.lnE(), v.lnE)
	}
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
		g := guard{gapless.Arm{Requests: v.bad + v.good, Bad: v.bad}, 0.01}
		near(t, v, g.lnE(0), v.lnE)
	}
}

// uniform is the time-uniform radius of Howard and Ramdas (2022) around a
// distribution function: another way to the bands of quantiles, with other
// constants. See TestQuantileBand.
func uniform(n, alpha float64) float64 {
	return 0.85 * math.Sqrt((math.Log(math.Log(math.E*n))+0.8*math.Log(1612/alpha))/n)
}

func TestUniformVectors(t *testing.T) {
	for n, want := range map[float64]float64{100: 0.292855877811, 1000: 0.093942046878, 10000: 0.030016242455, 100000: 0.009569052494} {
		near(t, n, uniform(n, 0.005), want)
	}
}

// How many bad answers of the candidate decide by the errors test alone, by
// stable's bad answers so far, at a false-alarm rate of 1 %.
func TestFewestBadAnswersThatDecide(t *testing.T) {
	test := errorsVector(1, 20, 1)
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
			got := fewest(func(n uint64) bool { return test.lnE(badAt(weight, n, stable[i])) >= math.Log(100) })
			if got != w {
				t.Errorf("weight %v, stable %d bad: %d decide, want %d", weight, stable[i], got, w)
			}
		}
	}
}

// And how many decide by all tests together, with no bad answer of stable.
func TestFewestBadAnswersTogether(t *testing.T) {
	for weight, want := range map[float64]uint64{0.01: 2, 0.02: 2, 0.05: 2, 0.1: 3, 0.25: 4, 0.5: 8} {
		if got := fresh(t, Config{}).Verdict(weight).Needed.Bad; got != want {
			t.Errorf("weight %v: %d decide, want %d", weight, got, want)
		}
	}
}
