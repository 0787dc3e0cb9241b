package supervise

import (
	"fmt"
	"os"
	"os/user"
	"strconv"

	"gapless"
)

// LookupUser resolves the system user of an app; "" is the user we run as.
func LookupUser(name string) (*User, error) {
	var u *user.User
	var err error
	if name == "" {
		u, err = user.Current()
		if err != nil { // a uid without a passwd entry, usual in containers
			return &User{Name: strconv.Itoa(os.Getuid()), Home: "/", UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, nil
		}
	} else if u, err = user.Lookup(name); err != nil {
		return nil, gapless.Errorf(gapless.Invalid, "user %s does not exist on this machine", name).
			WithHint("create it (useradd --system %s) or change user: in gapless.yaml", name)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read the id of user %s: %w", name, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read the group of user %s: %w", name, err)
	}
	r := &User{Name: u.Username, Home: u.HomeDir, UID: uint32(uid), GID: uint32(gid)}
	if name == "" || int(uid) == os.Geteuid() {
		return r, nil
	}
	if os.Geteuid() != 0 {
		return nil, gapless.Errorf(gapless.NotAllowed, "cannot run instances as user %s: gapless runs as %s, not as root", name, whoami()).
			WithHint("run gapless as root (sudo gapless up), or remove user: from gapless.yaml")
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("read the groups of user %s: %w", name, err)
	}
	for _, id := range ids {
		if g, err := strconv.ParseUint(id, 10, 32); err == nil {
			r.Groups = append(r.Groups, uint32(g))
		}
	}
	return r, nil
}

func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Geteuid())
}
