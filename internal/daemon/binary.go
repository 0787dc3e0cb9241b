package daemon

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gapless"
	"gapless/internal/keeper"
)

// An installation runs from its own copy of the binary, bin/<hash>/gapless:
// whoever overwrites the one that it was started from harms nothing, and the
// copy before the present one is there to go back to.

// Bin is where the copies are.
func (h Home) Bin() string { return h.path("bin") }

// previous names the binary that ran before the present one.
func (h Home) previous() string { return h.path("bin", "previous") }

// deleted is what Linux writes behind the path of a program whose file is gone.
const deleted = " (deleted)"

// enough is the free space in bytes below which no copy is made: it would
// take what apps and database need.
const enough = 512 << 20

// keepBinary copies a binary into the home and returns the copy's path; the
// binary itself where a copy is not possible.
func keepBinary(home Home, exe string) (string, error) {
	if filepath.Dir(filepath.Dir(exe)) == home.Bin() {
		return exe, nil
	}
	in, err := os.Open(exe)
	if err != nil {
		return "", gapless.Errorf(gapless.Invalid, "open the binary %s: %w", exe, err).WithHint("name a gapless binary that you may read")
	}
	defer func() { _ = in.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return "", gapless.Errorf(gapless.Invalid, "read the binary %s: %w", exe, err).WithHint("name a gapless binary that you may read")
	}
	dst := filepath.Join(home.Bin(), hex.EncodeToString(sum.Sum(nil))[:12], "gapless")
	if hasCapabilities(exe) { // a copy would not have them, whoever made it
		return exe, nil
	}
	if _, err := os.Stat(dst); err == nil {
		return dst, nil
	}
	if freeSpace(string(home)) < enough {
		return exe, nil
	}
	if err := copyBinary(in, dst); err != nil {
		return exe, nil // a disk that is full or read-only must not keep us from starting
	}
	return dst, nil
}

func copyBinary(in *os.File, dst string) error {
	if err := os.MkdirAll(filepath.Dir(dst), 0o711); err != nil {
		return err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(dst), ".new-")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	err = errors.Join(err, out.Chmod(0o755), out.Close())
	if err == nil {
		err = os.Rename(out.Name(), dst)
	}
	if err != nil {
		_ = os.Remove(out.Name())
	}
	return err
}

// tryBinary makes sure that a binary is gapless and runs here.
func tryBinary(ctx context.Context, path string) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "version", "--json").Output()
	var v struct{ Version, System string }
	if err == nil {
		err = json.Unmarshal(out, &v)
	}
	if err == nil && v.Version == "" {
		err = errors.New("it names no version")
	}
	if err != nil {
		return "", gapless.Errorf(gapless.Invalid, "%s is not a gapless that runs here: %w", path, err).
			WithHint("name a gapless binary that is made for this system and may be executed; try it with: %s version", path)
	}
	return v.Version, nil
}

// pointPrevious remembers which binary to go back to.
func pointPrevious(home Home, path string) error {
	draft := home.previous() + ".new"
	if err := os.MkdirAll(home.Bin(), 0o711); err != nil {
		return err
	}
	if err := os.Remove(draft); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(path, draft); err != nil {
		return err
	}
	return os.Rename(draft, home.previous())
}

// pruneBinaries removes the copies that are neither in use nor to go back to.
func pruneBinaries(home Home, keep ...string) error {
	if previous, err := os.Readlink(home.previous()); err == nil {
		keep = append(keep, previous)
	}
	names, err := filepath.Glob(filepath.Join(home.Bin(), "*", "gapless"))
	if err != nil {
		return err
	}
	for _, name := range names {
		used := false
		for _, k := range keep {
			used = used || k == name
		}
		if !used {
			err = errors.Join(err, os.RemoveAll(filepath.Dir(name)))
		}
	}
	return err
}

// runsFrom is the binary that a process runs from, "" if that is not known.
func runsFrom(pid int) string {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(exe, deleted)
}

// becomeCopy makes keeper run from the copy of its binary. It returns nil if
// it does already, or goes on as it is because there is none.
func becomeCopy(home Home, exe string) error {
	dst, err := keepBinary(home, exe)
	if err != nil || dst == exe {
		return nil // it runs, which is what counts
	}
	if _, err := tryBinary(context.Background(), dst); err != nil {
		return nil // a file system that runs nothing
	}
	return syscall.Exec(dst, append([]string{dst}, os.Args[1:]...), append(os.Environ(), keeper.BinaryEnv+"="+exe))
}
