package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"gapless"
)

// checkPages refuses a release that lacks an error page that its
// configuration names: whoever needs it should not find that out.
func checkPages(rel *gapless.Release) error {
	root, err := os.OpenRoot(rel.Tree)
	if err != nil {
		return fmt.Errorf("read the error pages: %w", err)
	}
	defer func() { _ = root.Close() }()
	for _, status := range slices.Sorted(maps.Keys(rel.Spec.ErrorPages)) {
		file := rel.Spec.ErrorPages[status]
		info, err := root.Stat(filepath.FromSlash(file))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return gapless.Errorf(gapless.Invalid, "the error page for %d, %s, is not in the release", status, file).
				WithHint("write it, or look whether .gitignore or .gaplessignore leaves it out")
		case err != nil:
			return gapless.Errorf(gapless.Invalid, "read the error page for %d: %w", status, err)
		case !info.Mode().IsRegular():
			return gapless.Errorf(gapless.Invalid, "the error page for %d, %s, is not a file", status, file)
		case info.Size() > gapless.MaxPage:
			return gapless.Errorf(gapless.Invalid, "the error page for %d, %s, is %d bytes long, more than %d KiB", status, file, info.Size(), gapless.MaxPage>>10).
				WithHint("let it load its images and styles from elsewhere")
		}
	}
	return nil
}
