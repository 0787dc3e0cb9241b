package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"filippo.io/age"

	"gapless"
	"gapless/internal/durable"
)

// vault encrypts what must not lie on the disk as text: secrets, and the
// environments of releases. Its key is an age identity in the home.
type vault struct {
	home Home

	mu sync.Mutex
	id *age.X25519Identity

	writing sync.Mutex // held from reading an app's secrets to replacing them
}

// VaultKey is the age identity file; age -d -i opens with it what the vault sealed.
func (h Home) VaultKey() string { return h.path("secrets.key") }

// sealedMark is how everything begins that age encrypted.
const sealedMark = "age-encryption.org/"

// seal encrypts data; the first time it makes the key.
func (v *vault) seal(data []byte) ([]byte, error) {
	id, err := v.identity(true)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, id.Recipient())
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return out.Bytes(), nil
}

// open decrypts what seal made. What is not encrypted is returned as it is:
// releases of older versions have their environment as text.
func (v *vault) open(data []byte) ([]byte, error) {
	if !sealed(data) {
		return data, nil
	}
	id, err := v.identity(false)
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(bytes.NewReader(data), id)
	if err == nil {
		data, err = io.ReadAll(r)
	}
	var other *age.NoIdentityMatchError
	if errors.As(err, &other) {
		return nil, gapless.Errorf(gapless.Unavailable, "it was encrypted with another key than %s", v.home.VaultKey()).
			WithHint("put the key in its place that belongs to it; without it, set the secrets again and deploy")
	}
	if err != nil {
		return nil, gapless.Errorf(gapless.Unavailable, "decrypt: %w", err).WithHint("the file is damaged: take it from a backup, or set the secrets again and deploy")
	}
	return data, nil
}

func sealed(data []byte) bool { return bytes.HasPrefix(data, []byte(sealedMark)) }

// identity reads the key, or makes it where there is none and nothing was
// encrypted with the one that is gone.
func (v *vault) identity(make bool) (*age.X25519Identity, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.id != nil {
		return v.id, nil
	}
	id, err := readIdentity(v.home.VaultKey())
	if errors.Is(err, fs.ErrNotExist) {
		if left, _ := filepath.Glob(v.home.Secrets("*")); !make || len(left) > 0 {
			return nil, gapless.Errorf(gapless.Unavailable, "the key %s is gone, and what it encrypted is still here", v.home.VaultKey()).
				WithHint("put it back, as from a backup made with --with-key; to give the secrets up: rm %s", v.home.Secrets("*"))
		}
		id, err = makeIdentity(v.home.VaultKey())
	}
	if err != nil {
		return nil, err
	}
	v.id = id
	return id, nil
}

// readIdentity reads an age identity file that only its owner may read.
func readIdentity(path string) (*age.X25519Identity, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, gapless.Errorf(gapless.Unavailable, "the key %s can be read by others (mode %o)", path, info.Mode().Perm()).
			WithHint("chmod 600 %s; if somebody may have read it, make a new one and set the secrets again", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	ids, err := age.ParseIdentities(bytes.NewReader(data))
	if err == nil && len(ids) == 1 {
		if id, ok := ids[0].(*age.X25519Identity); ok {
			return id, nil
		}
	}
	// What age says of a line it cannot read might show it.
	return nil, gapless.Errorf(gapless.Unavailable, "%s is no file with one age X25519 identity", path).
		WithHint("put the key back that was there, as from a backup made with --with-key")
}

// makeIdentity makes a key; it never replaces one.
func makeIdentity(path string) (*age.X25519Identity, error) {
	id, err := age.GenerateX25519Identity()
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	text := fmt.Sprintf("# created: %s\n# public key: %s\n%s\n", time.Now().UTC().Format(time.RFC3339), id.Recipient(), id)
	draft := path + ".new"
	err = durable.Write(draft, []byte(text))
	if err == nil {
		err = os.Link(draft, path) // unlike rename it replaces nothing
	}
	if err = errors.Join(err, ignoreMissing(os.Remove(draft))); err != nil {
		return nil, fmt.Errorf("make the key %s: %w", path, err)
	}
	return id, durable.Dir(filepath.Dir(path))
}
