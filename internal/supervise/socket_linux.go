package supervise

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// readSocketListeners returns the inodes of the unix sockets that listen at a path.
func readSocketListeners(path string) ([]string, error) {
	f, err := os.Open("/proc/net/unix")
	if err != nil {
		return nil, fmt.Errorf("read the unix sockets: %w", err)
	}
	defer f.Close()
	var list []string
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		if inode, ok := parseSocket(sc.Text(), path); ok {
			list = append(list, inode)
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("read /proc/net/unix: %w", err)
	}
	return list, nil
}

// parseSocket reads one line of /proc/net/unix; ok: a socket listens at path.
func parseSocket(line, path string) (inode string, ok bool) {
	f := strings.Fields(line)
	const accepts = "00010000"
	if len(f) < 8 || f[3] != accepts || !strings.HasSuffix(line, " "+path) {
		return "", false
	}
	return f[6], true
}

// surveySocket looks who listens at a path, seen from pid's process tree.
func surveySocket(pid int, path string) (socketSurvey, error) {
	table, err := readProcTable()
	if err != nil {
		return socketSurvey{}, err
	}
	s := socketSurvey{complete: true}
	mine := map[string]bool{}
	for _, p := range table.tree(pid) {
		inodes, complete := sockets(p)
		s.complete = s.complete && complete
		for i := range inodes {
			mine[i] = true
		}
	}
	// The listeners are read last: one that is the tree's was open before.
	all, err := readSocketListeners(path)
	if err != nil {
		return socketSurvey{}, err
	}
	for _, inode := range all {
		if mine[inode] {
			s.own = true
		} else {
			s.others = append(s.others, inode)
		}
	}
	return s, nil
}
