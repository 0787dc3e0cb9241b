package pm2

import (
	"bytes"
	"context"
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
)

// Limits of evaluating a file.
const (
	evaluateLimit = 15 * time.Second
	maxJSON       = 4 << 20 // bytes
	maxStderr     = 16 << 10
)

// program imports the file and writes what it exports as JSON to descriptor 3:
// what the file itself prints does not matter.
const program = `
const { pathToFileURL } = require('node:url')
const { writeSync } = require('node:fs')
import(pathToFileURL(process.argv[1]).href).then(async m => {
  let v = m.default ?? { ...m }
  if (typeof v === 'function') v = await v()
  const text = Buffer.from(JSON.stringify(v) ?? 'null')
  for (let i = 0; i < text.length;) i += writeSync(3, text, i)
  process.exit(0)
}).catch(err => { console.error(String(err && err.stack || err).split('\n').slice(0, 5).join('\n')); process.exit(1) })
`

// Evaluate returns what an ecosystem file exports, as JSON. A .json file is
// read; any other is run by node, with the caller's environment as PM2 does,
// for 15 s at most.
func Evaluate(ctx context.Context, file string) ([]byte, error) {
	if filepath.Ext(file) == ".json" {
		f, err := os.Open(file)
		if err != nil {
			return nil, gapless.Errorf(gapless.NotFound, "read %s: %w", file, err)
		}
		defer func() { _ = f.Close() }()
		return bounded(f, file)
	}
	if _, err := os.Stat(file); err != nil {
		return nil, gapless.Errorf(gapless.NotFound, "read %s: %w", file, err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, gapless.Errorf(gapless.Unavailable, "%s is a program, and there is no node in PATH to run it", file).WithHint("install node, or save what it exports as a .json file")
	}
	ctx, cancel := context.WithTimeout(ctx, evaluateLimit)
	defer cancel()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", file, err)
	}
	defer func() { _ = r.Close() }()
	cmd := exec.CommandContext(ctx, node, "-e", program, "--", file)
	cmd.Dir = filepath.Dir(file)
	cmd.ExtraFiles = []*os.File{w}
	said := &start{}
	cmd.Stderr = said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", file, err)
	}
	defer func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }() // what it started, too
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Now()) })
	defer stop()
	data, readErr := bounded(r, file)
	if readErr != nil {
		cancel()
	}
	err = cmd.Wait()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, gapless.Errorf(gapless.Invalid, "%s did not end within %s", file, evaluateLimit).WithHint("save what it exports as a .json file and import that")
	case gapless.CodeOf(readErr) == gapless.Invalid:
		return nil, readErr
	case err != nil:
		return nil, gapless.Errorf(gapless.Invalid, "run %s: %w\n%s", file, err, strings.TrimSpace(said.String())).WithHint("does PM2 itself read it? An ES module is called .mjs")
	case readErr != nil:
		return nil, fmt.Errorf("run %s: %w", file, readErr)
	}
	return data, nil
}

func bounded(r io.Reader, file string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxJSON+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(data) > maxJSON {
		return nil, gapless.Errorf(gapless.Invalid, "%s says more than %d MiB", file, maxJSON>>20)
	}
	return data, nil
}

// start keeps the beginning of what is written to it.
type start struct{ bytes.Buffer }

func (t *start) Write(p []byte) (int, error) {
	if room := maxStderr - t.Len(); room > 0 {
		t.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
