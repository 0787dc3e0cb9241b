package cli

import (
	"bytes"
	"fmt"
	"testing"
)

// TestRecordRounds: seconds have milliseconds and durations microseconds, as
// the access log has, and no noise of floating point numbers after them.
func TestRecordRounds(t *testing.T) {
	for _, x := range []struct{ time, duration, t, ms string }{
		{"2026-11-25T10:00:00.1Z", "0.0011", "1795600800.1", "1.1"}, // 0.0011 * 1000 is 1.1000000000000001
		{"2026-11-25T10:00:00.123456Z", "0.004352", "1795600800.123", "4.352"},
		{"2026-11-25T10:00:00.123999Z", "0.001001", "1795600800.123", "1.001"},
		{"2026-11-25T10:00:00Z", "1.0010004", "1795600800", "1001"},
		{"2026-11-25T11:00:00.007+01:00", "0.0000005", "1795600800.007", "0.001"},
		{"2026-11-25T10:00:00.999Z", "0.0000004", "1795600800.999", "0"},
		{"2026-11-25T10:00:00.57Z", "30.000001", "1795600800.57", "30000.001"},
	} {
		r := recorder{recording: recording{Stable: "v1", Candidate: "v2"}}
		var out bytes.Buffer
		line := fmt.Sprintf(`{"time":%q,"release":"v2","instance":"v2/1","weight":0.1,"status":200,"duration":%s}`, x.time, x.duration)
		if err := r.writeTo(&out, "", func(each func(string) error) error { return each(line) }); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`{"t":%s,"arm":"candidate","w":0.1,"bad":false,"ms":%s,"instance":"v2/1"}`+"\n", x.t, x.ms)
		if out.String() != want {
			t.Errorf("%s became\n%swant\n%s", line, out.String(), want)
		}
	}
}
