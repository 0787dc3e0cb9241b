package snapshot

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"gapless"
)

// The files that say what does not belong to a release.
const (
	gitIgnore = ".gitignore"
	ownIgnore = ".gaplessignore" // wins over every .gitignore
	maxIgnore = 1 << 20          // bytes of one of them
)

// Ignore tells what of a directory does not belong to a release, by git's
// rules: a file rules over its directory and all below, deeper files and later
// lines win. It is not safe for concurrent use.
type Ignore struct {
	root   string
	above  []level // from the top of the git work tree down to the parent of root
	levels map[string]*rules
}

// rules are the ignore files of one directory.
type rules struct{ git, own []pattern }

// level is an ignore file above the root; below is the root's path from there.
type level struct {
	patterns []pattern
	below    string
}

// NewIgnore reads the rules for dir. If dir is part of a git work tree, the
// files above it count, too; what they say of dir itself does not.
func NewIgnore(dir string) (*Ignore, error) {
	ig := &Ignore{root: dir, levels: map[string]*rules{}}
	var above []level
	for at := dir; ; at = filepath.Dir(at) {
		if at != dir {
			patterns, err := readPatterns(filepath.Join(at, gitIgnore))
			if err != nil {
				return nil, err
			}
			below, err := filepath.Rel(at, dir)
			if err != nil {
				return nil, err
			}
			above = append([]level{{patterns, below}}, above...)
		}
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			ig.above = above
			return ig, nil
		}
		if at == filepath.Dir(at) {
			return ig, nil // no work tree: what lies above has nothing to say
		}
	}
}

// Match reports whether rel, a slash-separated path below the root, is
// ignored, and whether .gaplessignore says so. What is below an ignored
// directory is ignored with it: the caller does not go in there.
func (ig *Ignore) Match(rel string, dir bool) (ignored, own bool, err error) {
	base := path.Base(rel)
	match := func(list []pattern, below string) bool {
		for i := len(list) - 1; i >= 0; i-- {
			if list[i].match(below, base, dir) {
				ignored = !list[i].negate
				return true
			}
		}
		return false
	}
	for _, own := range []bool{true, false} {
		for at := path.Dir(rel); ; at = path.Dir(at) {
			r, err := ig.of(at)
			if err != nil {
				return false, false, err
			}
			list, below := r.git, rel
			if own {
				list = r.own
			}
			if at != "." {
				below = rel[len(at)+1:]
			}
			if match(list, below) {
				return ignored, own, nil
			}
			if at == "." {
				break
			}
		}
	}
	for i := len(ig.above) - 1; i >= 0; i-- {
		if match(ig.above[i].patterns, ig.above[i].below+"/"+rel) {
			break
		}
	}
	return ignored, false, nil
}

// of returns the rules that lie in the directory dir, "." for the root.
func (ig *Ignore) of(dir string) (*rules, error) {
	if r := ig.levels[dir]; r != nil {
		return r, nil
	}
	git, err := readPatterns(filepath.Join(ig.root, dir, gitIgnore))
	if err != nil {
		return nil, err
	}
	own, err := readPatterns(filepath.Join(ig.root, dir, ownIgnore))
	if err != nil {
		return nil, err
	}
	ig.levels[dir] = &rules{git, own}
	return ig.levels[dir], nil
}

// readPatterns reads an ignore file. As in git, one that is a link does not count.
func readPatterns(name string) ([]pattern, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxIgnore+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxIgnore {
		return nil, gapless.Errorf(gapless.NotStarted, "%s is larger than 1 MiB", name).WithHint("list directories instead of files in it")
	}
	var out []pattern
	for line := range strings.SplitSeq(strings.TrimPrefix(string(data), "\ufeff"), "\n") {
		if p, ok := parsePattern(line); ok {
			out = append(out, p)
		}
	}
	return out, nil
}
