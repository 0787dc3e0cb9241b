package supervise

// CPU returns the processor time in seconds that every running instance used
// so far, by ID, with all processes that belong to it. It reads the process
// table once. A process that starts anew counts from zero; what cannot be
// known is not in it.
func (s *Supervisor) CPU() map[string]float64 {
	roots, ids := map[int]bool{}, map[int]string{}
	s.mu.Lock()
	for _, p := range s.processes {
		if p.pid > 0 {
			roots[p.pid], ids[p.pid] = true, p.inst.id
		}
	}
	s.mu.Unlock()
	if len(roots) == 0 {
		return nil
	}
	table, err := readProcTable()
	if err != nil {
		return nil // no /proc on this system
	}
	used := map[string]float64{}
	for pid, root := range table.owners(roots) {
		if id := ids[root]; id != "" {
			used[id] += float64(table[pid].cpu) / ticks
		}
	}
	return used
}
