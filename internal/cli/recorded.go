package cli

import (
	"errors"
	"io/fs"
	"os"

	"gapless"
)

// byteOrderMark may stand before the first line of a file that Windows wrote.
const byteOrderMark = "\xef\xbb\xbf"

// openRecorded opens a file of lines; "-" is stdin.
func openRecorded(path, hint string) (*os.File, error) {
	if path == "-" {
		return os.Stdin, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, gapless.Errorf(gapless.Invalid, "%w", err).WithHint("%s", hint)
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		_ = f.Close()
		return nil, gapless.Errorf(gapless.Invalid, "%s is a directory", path).WithHint("%s", hint)
	}
	return f, nil
}

// unreadable says that name cannot be read; the cause does not name it again.
func unreadable(name string, err error) *gapless.Error {
	if p := new(fs.PathError); errors.As(err, &p) {
		err = p.Err
	}
	return gapless.Errorf(gapless.Invalid, "read %s: %w", name, err)
}
