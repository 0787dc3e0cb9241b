package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"gapless"
	"gapless/internal/durable"
)

// maxSecrets bounds the secrets of one app.
const maxSecrets = 256

// Secrets is the file with the secrets of an app, encrypted.
func (h Home) Secrets(app string) string { return h.path("apps", app, "secrets.age") }

// secretFile is its content.
type secretFile struct {
	Format  int                    `json:"format"` // 1
	Secrets map[string]secretValue `json:"secrets"`
}

type secretValue struct {
	Value string    `json:"value"`
	Set   time.Time `json:"set"`
}

// secrets reads the secrets of an app; none where there is no file.
func (v *vault) secrets(app string) (map[string]secretValue, error) {
	data, err := os.ReadFile(v.home.Secrets(app))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]secretValue{}, nil
	}
	var f secretFile
	if err == nil && !sealed(data) {
		err = errors.New("it is not encrypted")
	}
	if err == nil {
		data, err = v.open(data)
	}
	if err == nil && json.Unmarshal(data, &f) != nil { // its error could show a value
		err = errors.New("it holds no JSON object")
	}
	if err == nil && f.Format != 1 {
		err = gapless.Errorf(gapless.Unsupported, "it has format %d, this gapless reads 1", f.Format).WithHint("use a newer gapless")
	}
	if err != nil {
		return nil, fmt.Errorf("read the secrets of %s: %w", app, err)
	}
	if f.Secrets == nil {
		f.Secrets = map[string]secretValue{}
	}
	return f.Secrets, nil
}

func (v *vault) saveSecrets(app string, all map[string]secretValue) error {
	data, err := json.Marshal(secretFile{Format: 1, Secrets: all})
	if err == nil {
		data, err = v.seal(data)
	}
	if err == nil {
		err = durable.Write(v.home.Secrets(app), data)
	}
	if err != nil {
		return fmt.Errorf("save the secrets of %s: %w", app, err)
	}
	return nil
}

// Secrets implements api.Service.
func (d *Daemon) Secrets(_ context.Context, app string) ([]gapless.Secret, error) {
	if err := d.checkApp(app); err != nil {
		return nil, err
	}
	all, err := d.vault.secrets(app)
	if err != nil {
		return nil, err
	}
	out := []gapless.Secret{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, gapless.Secret{Name: name, Set: all[name].Set})
	}
	return out, nil
}

// SetSecret implements api.Service. The app need not have been started yet.
func (d *Daemon) SetSecret(_ context.Context, app, name, value string) error {
	if err := d.checkApp(app); err != nil {
		return err
	}
	if err := gapless.CheckSecret(name, value); err != nil {
		return err
	}
	if err := d.home.makeApp(app); err != nil {
		return err
	}
	d.vault.writing.Lock()
	defer d.vault.writing.Unlock()
	all, err := d.vault.secrets(app)
	if err != nil {
		return err
	}
	if _, known := all[name]; !known && len(all) >= maxSecrets {
		return gapless.Errorf(gapless.Invalid, "%s has %d secrets, more are not kept", app, len(all)).WithHint("remove one: gapless secrets rm NAME")
	}
	all[name] = secretValue{Value: value, Set: time.Now().UTC().Truncate(time.Second)}
	if err := d.vault.saveSecrets(app, all); err != nil {
		return err
	}
	d.log.Info("secret set", "app", app, "name", name)
	return nil
}

// RemoveSecret implements api.Service.
func (d *Daemon) RemoveSecret(_ context.Context, app, name string) error {
	if err := d.checkApp(app); err != nil {
		return err
	}
	d.vault.writing.Lock()
	defer d.vault.writing.Unlock()
	all, err := d.vault.secrets(app)
	if err != nil {
		return err
	}
	if _, known := all[name]; !known {
		return gapless.Errorf(gapless.NotFound, "%s has no secret %q", app, name).WithHint("list them with: gapless secrets list")
	}
	delete(all, name)
	if err := d.vault.saveSecrets(app, all); err != nil {
		return err
	}
	d.log.Info("secret removed", "app", app, "name", name)
	return nil
}

// checkApp refuses what cannot be the name of an app: it becomes part of a path.
func (d *Daemon) checkApp(app string) error {
	if (&gapless.App{Name: app, Source: "/", Processes: []gapless.Process{{Name: "x"}}}).Validate() != nil {
		return gapless.Errorf(gapless.Invalid, "%q is not the name of an app", app).WithHint("gapless status lists them")
	}
	return nil
}

// removeDrafts removes what a write of secrets left that was cut off.
func (v *vault) removeDrafts() error {
	var all error
	for _, pattern := range []string{v.home.path("apps", "*", ".secrets.age-*"), v.home.path(".secrets.key.new-*")} {
		left, err := filepath.Glob(pattern)
		all = errors.Join(all, err)
		for _, name := range left {
			all = errors.Join(all, ignoreMissing(os.Remove(name)))
		}
	}
	return all
}
