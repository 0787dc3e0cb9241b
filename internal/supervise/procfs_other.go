//go:build !linux

package supervise

import (
	"errors"
	"net/netip"
)

// Without /proc, instances run and are probed, but nothing is known about who
// owns a port, about memory, or about what is left of a process group.

type procStat struct {
	resident int64
	cpu      int64
	zombie   bool
}

const ticks = 100

type procTable map[int]procStat

type listener struct{ addr netip.AddrPort }

type survey struct {
	own      []netip.AddrPort
	complete bool
	others   map[int][]string
}

func readProcTable() (procTable, error)           { return nil, errors.ErrUnsupported }
func (procTable) owners(map[int]bool) map[int]int { return nil }
func readListeners() ([]listener, error)          { return nil, errors.ErrUnsupported }
func surveyTree(int) (survey, error)              { return survey{}, errors.ErrUnsupported }
func surveySocket(int, string) (socketSurvey, error) {
	return socketSurvey{}, errors.ErrUnsupported
}
func holder([]string) string { return "" }
func groupAlive(int) bool    { return false }
func delegated(string) bool  { return false }
func writable(string) bool   { return false }

func carriesName(int, string) bool { return false }
