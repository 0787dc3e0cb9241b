package gapless

import "fmt"

// Objective writes the share of answers that must be good as people do: with
// more digits than Percent, which would make 100 % of 99.999 %.
func Objective(share float64) string { return fmt.Sprintf("%.6g %%", share*100) }
