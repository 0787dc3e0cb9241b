//go:build !nextversion

package store

import (
	"embed"
	"io/fs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// steps are the migrations in order.
func steps() (files fs.FS, names []string, err error) {
	names, err = fs.Glob(migrations, "migrations/*.sql") // sorted
	return migrations, names, err
}
