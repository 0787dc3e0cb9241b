package sim

import (
	"os"
	"slices"
	"sync"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// disk knows of every file that SQLite writes what would be left of it after a
// power cut: what was synced. It stands between SQLite and the system (as a
// VFS), so that a save that was not synced is lost in these tests, too.
type disk struct {
	mu    sync.Mutex
	files map[string]*image
	lies  bool // a sync says that it is done and does nothing: what synchronous=OFF comes to
}

// image is one file: what is durable, and the changes since the last sync.
type image struct {
	durable []byte
	pending []func([]byte) []byte
}

// power is the disk of all databases of this test binary.
var power = &disk{files: map[string]*image{}}

// opened begins to watch a file as it is; one that is empty begins anew.
func (d *disk) opened(path string) {
	data, err := os.ReadFile(path)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil && (d.files[path] == nil || len(data) == 0) {
		d.files[path] = &image{durable: data}
	}
}

func (d *disk) change(path string, f func([]byte) []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if img := d.files[path]; img != nil {
		img.pending = append(img.pending, f)
	}
}

func (d *disk) sync(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	img := d.files[path]
	if img == nil || d.lies {
		return
	}
	for _, f := range img.pending {
		img.durable = f(img.durable)
	}
	img.pending = nil
}

// left is what a power cut leaves of a file; ok is false where nobody watched it.
func (d *disk) left(path string) (data []byte, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	img := d.files[path]
	if img == nil {
		return nil, false
	}
	delete(d.files, path)
	return img.durable, true
}

func written(at int64, data []byte) func([]byte) []byte {
	return func(was []byte) []byte {
		if end := int(at) + len(data); end > len(was) {
			was = append(was, make([]byte, end-len(was))...)
		}
		copy(was[at:], data)
		return was
	}
}

func truncated(size int64) func([]byte) []byte {
	return func(was []byte) []byte { return was[:min(int64(len(was)), size)] }
}

// The places of functions in SQLite's structures, on 64 bits.
const (
	vfsOpen      = 40
	methodsSize  = 152
	fileWrite    = 24
	fileTruncate = 32
	fileSync     = 40
)

type (
	openFunc     = func(*libc.TLS, uintptr, uintptr, uintptr, int32, uintptr) int32
	writeFunc    = func(*libc.TLS, uintptr, uintptr, int32, int64) int32
	truncateFunc = func(*libc.TLS, uintptr, int64) int32
	syncFunc     = func(*libc.TLS, uintptr, int32) int32
)

// at is the memory of C that a number names.
func at[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

// watch puts the disk between SQLite and its files.
func (d *disk) watch() {
	tls := libc.NewTLS()
	vfs := sqlite3.Xsqlite3_vfs_find(tls, 0)
	open := *at[openFunc](vfs + vfsOpen)
	var mu sync.Mutex
	paths := map[uintptr]string{}   // of open files
	tables := map[uintptr]uintptr{} // of functions → ours
	path := func(file uintptr) string {
		mu.Lock()
		defer mu.Unlock()
		return paths[file]
	}
	*at[openFunc](vfs + vfsOpen) = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32 {
		rc := open(tls, vfs, name, file, flags, out)
		methods := *at[uintptr](file)
		if rc != sqlite3.SQLITE_OK || name == 0 || methods == 0 {
			return rc
		}
		d.opened(libc.GoString(name))
		mu.Lock()
		defer mu.Unlock()
		paths[file] = libc.GoString(name)
		if tables[methods] == 0 {
			ours := libc.Xmalloc(tls, methodsSize)
			libc.Xmemcpy(tls, ours, methods, methodsSize)
			write, truncate, flush := *at[writeFunc](methods + fileWrite), *at[truncateFunc](methods + fileTruncate), *at[syncFunc](methods + fileSync)
			*at[writeFunc](ours + fileWrite) = func(tls *libc.TLS, file, data uintptr, n int32, off int64) int32 {
				rc := write(tls, file, data, n, off)
				if rc == sqlite3.SQLITE_OK {
					d.change(path(file), written(off, slices.Clone(libc.GoBytes(data, int(n)))))
				}
				return rc
			}
			*at[truncateFunc](ours + fileTruncate) = func(tls *libc.TLS, file uintptr, size int64) int32 {
				rc := truncate(tls, file, size)
				if rc == sqlite3.SQLITE_OK {
					d.change(path(file), truncated(size))
				}
				return rc
			}
			*at[syncFunc](ours + fileSync) = func(tls *libc.TLS, file uintptr, flags int32) int32 {
				rc := flush(tls, file, flags)
				if rc == sqlite3.SQLITE_OK {
					d.sync(path(file))
				}
				return rc
			}
			tables[methods] = ours
			keep = append(keep, *at[writeFunc](ours + fileWrite), *at[truncateFunc](ours + fileTruncate), *at[syncFunc](ours + fileSync))
		}
		*at[uintptr](file) = tables[methods]
		return rc
	}
	keep = append(keep, *at[openFunc](vfs + vfsOpen))
}

// keep holds what only C's memory points to.
var keep []any
