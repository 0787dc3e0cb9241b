package cli

import (
	"io/fs"
	"os"
	"path/filepath"
)

// standing is the directory that the person stands in, by the name that they
// entered it by: releases are often entered through a link such as current/,
// and it is the link that an app is started from, not what it led to that day.
func standing() (string, error) {
	dir, err := os.Getwd() // $PWD, if that is still this directory
	if pwd := os.Getenv("PWD"); relinked(dir, pwd) {
		return pwd, nil
	}
	return dir, err
}

// relinked reports whether pwd is a link that was set anew while a shell stood
// in it: the shell still says pwd, and the kernel says the directory of before
// (dir; "" if that was removed). Only a link to a sibling of that directory is
// believed, because not every program that changes its directory says so in $PWD.
func relinked(dir, pwd string) bool {
	if !filepath.IsAbs(pwd) || filepath.Clean(pwd) != pwd || pwd == dir {
		return false
	}
	info, err := os.Lstat(pwd)
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return false
	}
	real, err := filepath.EvalSymlinks(pwd)
	if err != nil {
		return false
	}
	return dir == "" || filepath.Dir(real) == filepath.Dir(dir)
}
