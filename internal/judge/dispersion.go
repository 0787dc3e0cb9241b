package judge

// Dispersion learns how unevenly bad answers fall on the instances of the
// stable release, which are all the same version. A pause of one process or a
// noisy neighbour makes them come in clumps on one instance; a candidate with
// one instance would then be blamed for bad luck. Feed it before the rollout
// starts, windows of about 10 s of the last hour, and freeze Phi in Config.
//
// Every factor of the errors test is raised to 1/phi (tempering). A fixed
// exponent of at most 1 keeps the mean of a factor at or below 1, so nothing is
// lost of the guarantee; that it is enough under clumps is measured, not
// proven. The price: about phi times as many bad answers until a verdict.
//
// The zero value has seen nothing. It is a plain value that JSON carries.
type Dispersion struct {
	Spread float64 `json:"spread"` // sum of squared distances from an even split
	Chance float64 `json:"chance"` // what chance alone would give
}

// dispersionPrior is added to both sums: few events must not claim much.
const dispersionPrior = 20

// Observe adds one window: the bad answers of each ready stable instance.
// Windows with less than two instances or without bad answers say nothing.
func (d Dispersion) Observe(bad []uint64) Dispersion {
	total := 0.0
	for _, k := range bad {
		total += float64(k)
	}
	n := float64(len(bad))
	if n < 2 {
		return d
	}
	even := total / n
	for _, k := range bad {
		d.Spread += (float64(k) - even) * (float64(k) - even)
	}
	d.Chance += total * (1 - 1/n)
	return d
}

// ObserveOf is Observe where instances were given different numbers of
// requests, all of them, of which these were slow. Under chance alone the
// share q that all instances have together is that of each, and what instance
// j has of its n of N requests varies by n q (1-q) (1 - n/N) around n q.
func (d Dispersion) ObserveOf(slow, all []uint64) Dispersion {
	var k, n float64
	for j := range all {
		k, n = k+float64(slow[j]), n+float64(all[j])
	}
	if n == 0 {
		return d
	}
	q := k / n
	for j := range all {
		given := float64(all[j])
		far := float64(slow[j]) - given*q
		d.Spread += far * far
		d.Chance += given * q * (1 - q) * (1 - given/n)
	}
	return d
}

// Plus is what both have learned.
func (d Dispersion) Plus(o Dispersion) Dispersion {
	return Dispersion{d.Spread + o.Spread, d.Chance + o.Chance}
}

// Phi is Pearson's measure of overdispersion, 1 or more: 1 is what chance
// gives. It is a ratio of sums, so that each bad answer has the same say; a
// mean of ratios would let many quiet windows hide the clumps. known is false
// as long as nothing was learned: then phi is 1, and noise of one instance
// cannot be told from the version.
func (d Dispersion) Phi() (phi float64, known bool) {
	return max(1, (d.Spread+dispersionPrior)/(d.Chance+dispersionPrior)), d.Chance > 0
}
