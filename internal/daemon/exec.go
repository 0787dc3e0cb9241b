package daemon

import (
	"context"
	"net"
	"os"
	"strings"

	"gapless"
	"gapless/internal/api"
)

// Exec implements api.Service. The answer holds the values of the release's
// environment, so it is given only over the unix socket, and only to root and
// to the user that gapless runs as: both can read the 0600 file that they come from.
func (d *Daemon) Exec(ctx context.Context, name string, req api.ExecRequest) (api.Exec, error) {
	who, local := api.CallerOf(ctx)
	if !local || who.UID != nil && *who.UID != 0 && *who.UID != os.Geteuid() {
		return api.Exec{}, gapless.Errorf(gapless.NotAllowed, "the environment of %s is only for the user that gapless runs as", name)
	}
	rel, process, port, err := d.meant(name, req)
	if err != nil {
		return api.Exec{}, err
	}
	env, err := d.vault.environment(rel)
	if err != nil {
		return api.Exec{}, err
	}
	c, err := d.sup.Command(rel, process, env.of(process), port, nil)
	if err != nil {
		return api.Exec{}, err
	}
	out := api.Exec{Release: rel.Name, Dir: c.Dir, Env: c.Env}
	if c.User != nil {
		out.User, out.UID, out.GID, out.Groups = c.User.Name, c.User.UID, c.User.GID, c.User.Groups
	}
	return out, nil
}

// meant is the release, the process and the port that a request names.
func (d *Daemon) meant(name string, req api.ExecRequest) (rel *gapless.Release, process, port string, err error) {
	a, err := d.app(name)
	if err != nil {
		return nil, "", "", err
	}
	release := req.Release
	process = req.Process
	switch {
	case req.Instance != "" && (req.Release != "" || req.Process != ""):
		return nil, "", "", gapless.Errorf(gapless.Invalid, "an instance and a release or process were given").WithHint("leave one of them out")
	case req.Instance != "":
		in := d.instance(name, req.Instance)
		if in == nil {
			return nil, "", "", gapless.Errorf(gapless.NotFound, "%s has no instance %q", name, req.Instance).
				WithHint("list them with: gapless status %s", name)
		}
		release, process, port = in.Release, in.Process, portOf(in.Address)
	case release == "":
		if release = a.runner.State().Stable; release == "" {
			return nil, "", "", gapless.Errorf(gapless.Conflict, "%s has no release that serves", name).
				WithHint("name one: gapless releases %s lists them", name)
		}
	}
	if rel, err = d.release(name, release); err != nil {
		if gapless.CodeOf(err) == gapless.NotFound {
			err = gapless.Errorf(gapless.NotFound, "%s has no release %q", name, release).WithHint("list them with: gapless releases %s", name)
		}
		return nil, "", "", err
	}
	if rel.Spec.SocketFD {
		port = "" // its socket was handed over, and PORT says nothing
	}
	if process == "" {
		if len(rel.Spec.Processes) == 0 {
			return nil, "", "", gapless.Errorf(gapless.Conflict, "release %s of %s has no process", release, name)
		}
		process = rel.Spec.Processes[0].Name // web, if there is one
	}
	return rel, process, port, nil
}

// instance is the one of an app with that label, nil if there is none.
func (d *Daemon) instance(app, label string) *gapless.Instance {
	for _, in := range d.sup.Observe() {
		if in.App == app && in.Label() == label {
			return &in
		}
	}
	return nil
}

// portOf is what PORT says to the instance at an address: its port, or the
// path of its unix socket.
func portOf(address string) string {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return path
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return ""
	}
	return port
}
