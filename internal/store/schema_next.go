//go:build nextversion

package store

import (
	"embed"
	"io/fs"
)

// The next version of gapless has one more migration. Tests go there and back.
//
//go:embed migrations/*.sql next/*.sql
var migrations embed.FS

func steps() (files fs.FS, names []string, err error) {
	if names, err = fs.Glob(migrations, "migrations/*.sql"); err != nil {
		return nil, nil, err
	}
	more, err := fs.Glob(migrations, "next/*.sql")
	return migrations, append(names, more...), err
}
