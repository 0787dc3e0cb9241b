package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"

	"gapless"
)

// bootFile holds another value after each start of the machine.
const bootFile = "/proc/sys/kernel/random/boot_id"

// bootNote is the key under which the last boot is remembered.
const bootNote = "boot"

// bootID reads which start of the machine this is; "" where the system does not say.
func bootID(file string) (string, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}

// rebooted reports whether the machine was started again since a daemon ran
// here last, and remembers this start. Nothing that is stored names a process,
// so there is nothing to forget: keeper is a new one and what it does not
// know is started from the store.
func (d *Daemon) rebooted(ctx context.Context, file string) bool {
	now, err := bootID(file)
	if err != nil || now == "" {
		d.log.Warn("which start of the machine this is cannot be read", "err", err)
		return false
	}
	var before string
	if err := d.store.Note(ctx, bootNote, &before); err != nil && gapless.CodeOf(err) != gapless.NotFound {
		d.log.Warn("read the last start of the machine", "err", err)
		return false
	}
	if before != now {
		if err := d.store.SetNote(ctx, bootNote, now); err != nil { // a full disk keeps nobody from starting
			d.log.Warn("remember this start of the machine", "err", err)
		}
	}
	return before != "" && before != now
}
