package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"gapless"
)

// why is a fault in words for people: what is wrong and what to do about it.
type why struct{ reason, hint string }

// whyExited says how a process ended that nobody told to end.
func whyExited(e gapless.Exit, after time.Duration, memory int64) why {
	ago := "after " + short(after)
	switch {
	case e.OOM:
		return why{
			fmt.Sprintf("was killed %s for using more than %s of memory", ago, size(hardLimit(memory))),
			fmt.Sprintf("memory: is %s, and the kernel kills at half as much again; raise it, or look for what grows", size(memory)),
		}
	case e.Signal == "SIGKILL":
		return why{"was killed by SIGKILL " + ago, "nothing in gapless did this; often it is the kernel, when the machine runs out of memory: see dmesg"}
	case e.Signal == "SIGABRT" || e.Code == 134:
		return why{"aborted " + ago, "node does this when its heap is full; see the log, and raise it with NODE_OPTIONS=--max-old-space-size=<MiB>"}
	case e.Signal != "":
		return why{"was killed by " + e.Signal + " " + ago, ""}
	case e.Code < 0:
		return why{"ended " + ago + ", exit code unknown", ""}
	case e.Code == 0:
		return why{"ended by itself " + ago + " (exit code 0)", "an instance has to keep running in the foreground: does the program start a server and wait?"}
	case e.Code == 126:
		return why{"exited with code 126 " + ago, "a shell answers 126 when a file is not executable: chmod +x it"}
	case e.Code == 127:
		return why{"exited with code 127 " + ago, "a shell answers 127 when it does not find a command: see the log for its name"}
	}
	return why{fmt.Sprintf("exited with code %d %s", e.Code, ago), ""}
}

// whyNotStarted says why a host could not start a program.
func whyNotStarted(err error, s Spec) why {
	name := s.Argv[0]
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return why{fmt.Sprintf("cannot start %s: a file is missing", name),
			fmt.Sprintf("the program, the interpreter named in its first line, or the directory %s is not there", s.Dir)}
	case errors.Is(err, fs.ErrPermission):
		who := "the user"
		if s.User != nil {
			who = "user " + s.User.Name
		}
		return why{fmt.Sprintf("cannot start %s: permission denied", name),
			fmt.Sprintf("%s must be able to enter %s and to execute %s", who, s.Dir, name)}
	case errors.Is(err, syscall.ENOEXEC):
		return why{fmt.Sprintf("cannot start %s: not a program of this system", name),
			"a script needs a first line like #!/usr/bin/env node; a binary must be built for this processor"}
	}
	return why{fmt.Sprintf("cannot start %s: %v", name, err), gapless.HintOf(err)}
}

// short writes a duration as people say it: "0.2 s", "3 s", "2m10s".
func short(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return fmt.Sprintf("%.2g s", max(d, 10*time.Millisecond).Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	}
	return d.Round(time.Second).String()
}

// size writes a size for people: "256 MiB".
func size(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.4g GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.4g MiB", float64(n)/(1<<20))
}
