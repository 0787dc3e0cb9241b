package daemon

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/snapshot"
)

// prepare makes a release from the app's source directory: tree, commands,
// runtime, environment, in which the names of secrets are secrets. It leaves nothing behind when it fails.
func (d *Daemon) prepare(ctx context.Context, req api.DeployRequest, secrets []string, say func(format string, args ...any)) (_ *gapless.Release, err error) {
	app := req.App
	number, err := d.store.NextRelease(ctx, app.Name)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("v%d", number)
	rel := &gapless.Release{App: app.Name, Name: name, Created: time.Now().UTC(), Tree: d.home.Tree(app.Name, name),
		EnvFile: d.home.EnvFile(app.Name, name), Commands: map[string][]string{}}
	if err := d.home.makeApp(app.Name); err != nil {
		return nil, err
	}
	if err := letIn(app.User, filepath.Dir(rel.Tree)); err != nil {
		return nil, err
	}
	if err := clearLeftovers(rel.Tree); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.remove(rel))
		}
	}()
	taken, err := d.take(ctx, rel, &app, say)
	if err != nil {
		return nil, err
	}
	if err := d.install(ctx, rel, &req, taken, say); err != nil {
		return nil, err
	}
	if rel.Runtime, err = d.commands(rel, &app, req.Runtime); err != nil {
		return nil, err
	}
	if err := d.share(ctx, &app, rel.Tree); err != nil {
		return nil, err
	}
	env := environmentOf(req)
	for i := range app.Processes {
		app.Processes[i].Env = nil
	}
	app.Env, app.EnvFiles = nil, nil
	rel.EnvNames, rel.Secrets = slices.Sorted(maps.Keys(req.Env)), secrets
	rel.Spec = app
	if err := noSecretArguments(rel); err != nil {
		return nil, err
	}
	if err := build(ctx, rel, env, say); err != nil {
		return nil, err
	}
	if err := checkPages(rel); err != nil {
		return nil, err
	}
	if err := d.seal(ctx, rel, taken, say); err != nil {
		return nil, err
	}
	if err := d.vault.writeEnvironment(rel, env); err != nil {
		return nil, err
	}
	rel.ID = d.identity(rel, taken.Hash, env)
	if err := recordRelease(d.home, rel); err != nil {
		return nil, err
	}
	// Cancelled half-way it could be saved and told to have failed.
	if err := d.store.SaveRelease(context.WithoutCancel(ctx), number, rel); err != nil {
		return nil, err
	}
	return rel, nil
}

// letIn lets the user that instances run as pass through the directory of the
// releases, by its group; nobody else can: a tree may hold secrets.
func letIn(name, dir string) error {
	if name == "" {
		return nil
	}
	_, gid, err := systemUser(name)
	if err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		err = os.Chown(dir, -1, gid)
	}
	if err == nil {
		err = os.Chmod(dir, 0o710)
	}
	if err != nil {
		return fmt.Errorf("let user %s into %s: %w", name, dir, err)
	}
	return nil
}

// clearLeftovers removes what a crash left of a release that was never saved.
func clearLeftovers(tree string) error {
	left, err := filepath.Glob(tree + ".tmp-*")
	for _, dir := range append(left, tree) {
		err = errors.Join(err, snapshot.Remove(dir))
	}
	if err != nil {
		return fmt.Errorf("clear what an earlier try left: %w", err)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// commands resolves what each process really runs.
func (d *Daemon) commands(rel *gapless.Release, app *gapless.App, runtime gapless.Runtime) (gapless.Runtime, error) {
	needsNode := false
	for i := range app.Processes {
		p := &app.Processes[i]
		cmd, err := snapshot.Resolve(rel.Tree, p.Run)
		if err != nil {
			return runtime, err
		}
		needsNode = needsNode || snapshot.NeedsNode(cmd)
		rel.Commands[p.Name] = cmd.Argv
		for k, v := range cmd.Env {
			if strings.Contains(v, "$") && !cmd.Shell { // waits for PORT and the like
				rel.Commands[p.Name] = append([]string{"/usr/bin/env", k + "=" + v}, rel.Commands[p.Name]...)
				continue
			}
			setOwn(p, k, v)
		}
	}
	if !needsNode {
		return gapless.Runtime{}, nil
	}
	if runtime.Path == "" {
		return snapshot.DetectNode(rel.Tree)
	}
	return runtime, nil
}

// giveTo makes a new shared directory, with what is in it, the property of
// the user that the instances run as: they are there to write to it.
func giveTo(name, dir string) error {
	if name == "" || os.Geteuid() != 0 {
		return nil
	}
	uid, gid, err := systemUser(name)
	if err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
}

// systemUser looks up a user of this machine.
func systemUser(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, gapless.Errorf(gapless.Invalid, "user %s does not exist on this machine", name).
			WithHint("create it (useradd --system %s) or change user: in gapless.yaml", name)
	}
	if uid, err = strconv.Atoi(u.Uid); err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(u.Gid)
	return uid, gid, err
}

// identity hashes what a release is made of. The hash is keyed, because the
// values of the environment go into it and it is shown to people.
func (d *Daemon) identity(rel *gapless.Release, tree string, env environment) string {
	h := hmac.New(sha256.New, d.key)
	enc := json.NewEncoder(h)
	for _, part := range []any{tree, rel.Commands, rel.Runtime, rel.Spec, env} {
		_ = enc.Encode(part) // writes to a hash do not fail
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// readKey returns the installation's own secret, made at its first start.
func readKey(path string) ([]byte, error) {
	key, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		key = []byte(rand.Text())
		err = os.WriteFile(path, key, 0o600)
	}
	if err == nil && len(key) < 16 {
		err = errors.New("it is too short")
	}
	if err != nil {
		return nil, fmt.Errorf("the key file %s: %w", path, err)
	}
	return key, nil
}

// newID is a rollout ID: sorts by time, unlike any other.
func newID(now time.Time) string {
	return strings.ToLower(now.UTC().Format("20060102t150405")) + "-" + strings.ToLower(rand.Text()[:5])
}

// FindRuntime finds the node that the caller's PATH and the app ask for, if
// one of its commands needs it.
func FindRuntime(app *gapless.App) (gapless.Runtime, error) {
	for _, p := range app.Processes {
		cmd, err := snapshot.Resolve(app.Source, p.Run)
		if err != nil {
			return gapless.Runtime{}, err
		}
		if snapshot.NeedsNode(cmd) {
			return snapshot.DetectNode(app.Source)
		}
	}
	return gapless.Runtime{}, nil
}

// checkRequest refuses what the command line would never send.
func checkRequest(req api.DeployRequest) error {
	if req.Kind != "up" && req.Kind != "deploy" {
		return gapless.Errorf(gapless.Invalid, "unknown kind of rollout %q", req.Kind).WithHint("known: up, deploy")
	}
	if d := req.UntilDecided; d != 0 && (d < gapless.Duration(time.Second) || d > mostUntilDecided) {
		return gapless.Errorf(gapless.Invalid, "until-decided is %s, but must be between 1s and %s", d, mostUntilDecided).WithHint("write how long a judged step may wait, as in 2h")
	}
	return req.App.Validate()
}

// mostUntilDecided is how long a judged step may wait for a decision.
const mostUntilDecided = gapless.Duration(7 * 24 * time.Hour)
