package daemon

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gapless"
	"gapless/internal/api"
)

const marker = "m4rker-value"

func aVault(t *testing.T) *vault {
	t.Helper()
	home := Home(t.TempDir())
	if err := home.Make(); err != nil {
		t.Fatal(err)
	}
	if err := home.makeApp("shop"); err != nil {
		t.Fatal(err)
	}
	return &vault{home: home}
}

func TestVault(t *testing.T) {
	v := aVault(t)
	if err := v.saveSecrets("shop", map[string]secretValue{"A": {Value: marker}}); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{v.home.VaultKey(), v.home.Secrets("shop")} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	data, err := os.ReadFile(v.home.Secrets("shop"))
	if err != nil || !sealed(data) || bytes.Contains(data, []byte(marker)) {
		t.Errorf("it is not encrypted: %q, %v", data, err)
	}
	again := &vault{home: v.home} // after a restart
	if all, err := again.secrets("shop"); err != nil || all["A"].Value != marker {
		t.Errorf("%v, %v", all, err)
	}

	// One changed byte is refused.
	data[len(data)-1] ^= 1
	if err := os.WriteFile(v.home.Secrets("shop"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := v.secrets("shop"); gapless.HintOf(err) == "" {
		t.Errorf("a damaged file: %v", err)
	}
	// As is text.
	if err := os.WriteFile(v.home.Secrets("shop"), []byte(`{"format":1,"secrets":{"A":{"value":"x"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := v.secrets("shop"); err == nil {
		t.Error("a file that is not encrypted was read")
	}

	// A key that is gone, wide open, damaged or another one: said, never replaced.
	if err := v.saveSecrets("shop", map[string]secretValue{"A": {Value: marker}}); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(v.home.VaultKey())
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(otherKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func() error{
		"gone":    func() error { return os.Remove(v.home.VaultKey()) },
		"open":    func() error { return os.Chmod(v.home.VaultKey(), 0o644) },
		"damaged": func() error { return os.WriteFile(v.home.VaultKey(), append(key[:len(key)-9:len(key)-9], '\n'), 0o600) },
		"other":   func() error { return os.WriteFile(v.home.VaultKey(), other, 0o600) },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		fresh := &vault{home: v.home}
		_, err := fresh.secrets("shop")
		if err == nil || gapless.HintOf(err) == "" || strings.Contains(err.Error(), "AGE-SECRET-KEY") {
			t.Errorf("%s: %v", name, err)
		}
		if name == "gone" {
			if err := fresh.saveSecrets("shop", nil); err == nil {
				t.Error("gone: a new key was made, and what the old one encrypted is lost")
			}
		}
		if err := os.WriteFile(v.home.VaultKey(), key, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(v.home.VaultKey(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := (&vault{home: v.home}).secrets("shop"); err != nil {
		t.Errorf("with its key back: %v", err)
	}
}

func otherKey(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if _, err := makeIdentity(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// Releases of before the vault have their environment as text.
func TestEnvironmentFile(t *testing.T) {
	v := aVault(t)
	rel := &gapless.Release{Name: "v1", EnvFile: v.home.EnvFile("shop", "v1")}
	if err := os.WriteFile(rel.EnvFile, []byte(`{"":{"A":"1"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if env, err := v.environment(rel); err != nil || env.of("web")["A"] != "1" {
		t.Errorf("as text: %v, %v", env, err)
	}
	if err := v.writeEnvironment(rel, environment{"": {"A": marker}, "worker": {"B": "2"}}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(rel.EnvFile)
	if err != nil || bytes.Contains(data, []byte(marker)) {
		t.Errorf("%q, %v", data, err)
	}
	env, err := (&vault{home: v.home}).environment(rel)
	if err != nil || env.of("worker")["A"] != marker || env.of("worker")["B"] != "2" || env.of("web")["B"] != "" {
		t.Errorf("%v, %v", env, err)
	}
	if err := os.WriteFile(rel.EnvFile, []byte(`{"":{"A":"`+marker+`"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := v.environment(rel); err == nil || strings.Contains(err.Error(), marker) {
		t.Errorf("a cut file: %v", err)
	}
}

func TestComplete(t *testing.T) {
	v := aVault(t)
	d := &Daemon{home: v.home, vault: v, log: slog.New(slog.DiscardHandler)}
	last := &gapless.Release{Name: "v1", EnvFile: v.home.EnvFile("shop", "v1")}
	if err := v.writeEnvironment(last, environment{"": {"GIVEN": "old", "FILE": "old", "S": "old"}}); err != nil {
		t.Fatal(err)
	}
	if err := v.saveSecrets("shop", map[string]secretValue{"S": {Value: "secret"}, "FILE": {Value: "secret"}}); err != nil {
		t.Fatal(err)
	}
	flags := &gapless.Flags{Env: []string{"GIVEN", "S"}}
	req := api.DeployRequest{App: gapless.App{Name: "shop", Flags: flags}, Env: map[string]string{"FILE": "new", "NEW": "new"}}
	secrets, err := d.complete(last, &req)
	if err != nil || !slices.Equal(secrets, []string{"FILE", "S"}) {
		t.Errorf("%v, %v", secrets, err)
	}
	if diff := cmp.Diff(map[string]string{"GIVEN": "old", "FILE": "secret", "S": "secret", "NEW": "new"}, req.Env); diff != "" {
		t.Error(diff)
	}
	if !slices.Equal(req.App.Flags.Env, []string{"GIVEN"}) || len(flags.Env) != 2 {
		t.Errorf("flags: %v of %v", req.App.Flags.Env, flags.Env)
	}
}

func TestEnvChanges(t *testing.T) {
	before := map[string]string{"SAME": "1", "CHANGED": marker, "GONE": marker, "S": marker, "NOW": "1", "BACK": "1"}
	after := map[string]string{"SAME": "1", "CHANGED": "2", "NEW": marker, "S": "x", "NOW": "1", "BACK": "1", "N": "1"}
	got := envChanges("", before, after, []string{"S", "BACK"}, []string{"S", "NOW", "N"})
	want := []string{"new secret N", "new variable NEW", "secret BACK becomes a variable", "secret S changes",
		"variable CHANGED changes", "variable GONE goes", "variable NOW becomes a secret"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = envChanges("worker", map[string]string{"A": marker}, map[string]string{"B": "1"}, nil, nil)
	if diff := cmp.Diff([]string{"new variable B of worker", "variable A of worker goes"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestNoSecretArguments(t *testing.T) {
	for _, c := range []struct {
		argv    []string
		refused bool
	}{
		{[]string{"node", "x.js", "--token=$TOKEN"}, true},
		{[]string{"node", "x.js", "${TOKEN}x"}, true},
		{[]string{"node", "x.js", "$TOKEN.x"}, true},
		{[]string{"node", "x.js", "$TOKENS", "$PORT"}, false},
		{[]string{"node", "x.js", "$$TOKEN"}, false},
		{[]string{"node", "x.js", "TOKEN"}, false},
		{[]string{"/usr/bin/env", "A=$TOKEN", "node"}, true},
		{[]string{"/bin/sh", "-c", "echo $TOKEN | node x.js"}, false},
	} {
		err := noSecretArguments(&gapless.Release{Secrets: []string{"TOKEN"}, Commands: map[string][]string{"web": c.argv}})
		if (err != nil) != c.refused {
			t.Errorf("%q: %v", c.argv, err)
		}
	}
}

func TestVeil(t *testing.T) {
	env := environment{"": {"S": "s3cr3t-of-mine", "DB_PASSWORD": "hunter22", "NODE_ENV": "production", "URL": "postgres://u:p4ss@h/db", "PIN_KEY": "1234"},
		"worker": {"PEM": "-----BEGIN\nabcdefgh\n-----END"}}
	rel := &gapless.Release{Secrets: []string{"S", "PEM"}}
	got := env.veil(rel, "s3cr3t-of-mine hunter22 production 1234\npostgres://u:p4ss@h/db refused\n  abcdefgh")
	if want := "[S] [DB_PASSWORD] production 1234\n[URL] refused\n  [PEM]"; got != want {
		t.Errorf("%q", got)
	}
}

// A backup has the key only when asked for it; without it, the key that is there stays.
func TestBackupOfSecrets(t *testing.T) {
	home, st := anInstallation(t)
	v := &vault{home: home}
	if err := v.saveSecrets("shop", map[string]secretValue{"A": {Value: marker}}); err != nil {
		t.Fatal(err)
	}
	without, with := filepath.Join(t.TempDir(), "without.tar"), filepath.Join(t.TempDir(), "with.tar")
	if _, err := Backup(t.Context(), home, without, "test", false); err != nil {
		t.Fatal(err)
	}
	if _, err := Backup(t.Context(), home, with, "test", true); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	for file, has := range map[string]bool{without: false, with: true} {
		data, err := os.ReadFile(file)
		if err != nil || bytes.Contains(data, []byte(marker)) || bytes.Contains(data, []byte("AGE-SECRET-KEY")) != has {
			t.Errorf("%s: %v", file, err)
		}
	}
	opens := func() bool {
		all, err := (&vault{home: home}).secrets("shop")
		return err == nil && all["A"].Value == marker
	}
	if res, err := Restore(t.Context(), home, without); err != nil || len(res.Locked) > 0 || !opens() {
		t.Errorf("with the key that is there: %+v, %v", res, err)
	}
	if err := os.Remove(home.VaultKey()); err != nil {
		t.Fatal(err)
	}
	if res, err := Restore(t.Context(), home, without); err != nil || !slices.Equal(res.Locked, []string{"shop"}) || opens() {
		t.Errorf("with no key: %+v, %v", res, err)
	}
	if res, err := Restore(t.Context(), home, with); err != nil || len(res.Locked) > 0 || !opens() {
		t.Errorf("with its own key: %+v, %v", res, err)
	}
}
