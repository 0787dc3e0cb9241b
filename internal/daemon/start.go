package daemon

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/keeper"
)

// startLimit is how long a fresh keeper may take until its daemon answers.
const startLimit = 20 * time.Second

// Ensure returns a client of the daemon, and starts keeper (which starts
// daemon and edge) where nothing runs yet; started says so. What was up when
// keeper was told to end comes up again then.
func Ensure(ctx context.Context, home Home, exe string) (client *api.Client, started bool, err error) {
	client = Client(home)
	if _, err := client.Status(ctx); err == nil || !api.NoDaemon(err) {
		return client, started, err
	}
	if err := home.Make(); err != nil {
		return nil, false, err
	}
	var died <-chan error // while a keeper that we started runs
	deaths := 0
	for deadline := time.Now().Add(startLimit); ; {
		_, err := client.Status(ctx)
		if err == nil || !api.NoDaemon(err) {
			return client, started, err
		}
		if died == nil && !keeperLives(ctx, home) {
			if died, err = spawnKeeper(home, exe); err != nil {
				return nil, false, gapless.Errorf(gapless.Unavailable, "start keeper: %w", err)
			}
			started = true
		}
		wait := 5 * time.Millisecond
		select {
		case <-ctx.Done():
			return nil, started, ctx.Err()
		case err := <-died:
			// The one before may just be ending, or somebody else was quicker.
			died, started = nil, false
			if deaths++; deaths == keeperTries {
				return nil, false, gapless.Errorf(gapless.Unavailable, "keeper did not stay up: %w", err).WithHint("read %s", home.Log())
			}
			wait = 50 * time.Millisecond << deaths
		default:
		}
		time.Sleep(wait)
		if stuck := readOnly(home.Run()); stuck || time.Now().After(deadline) {
			if why := Diagnose(ctx, home); why != nil {
				return nil, started, why
			}
		}
		if time.Now().After(deadline) {
			return nil, started, gapless.Errorf(gapless.Unavailable, "the daemon does not answer on %s", home.APISocket()).
				WithHint("read %s", home.Log())
		}
	}
}

// keeperTries is how often Ensure starts a keeper that does not stay.
const keeperTries = 5

func keeperLives(ctx context.Context, home Home) bool {
	k, err := keeper.Dial(ctx, keeper.SocketPath(home.Run()))
	if err != nil {
		return keeper.Held(home.Run()) // one of those starts it
	}
	_ = k.Close()
	return true
}

// Client returns a client of the daemon of home. While keeper lives, or a
// process that will start it again, a daemon that is away is on its way back
// and waited for.
func Client(home Home) *api.Client {
	return api.NewClient(home.APISocket()).Patient(func() bool {
		// On a read-only disk a daemon cannot even make its socket.
		return keeperLives(context.Background(), home) && !readOnly(home.Run())
	})
}

// spawnKeeper starts keeper in a session of its own, so that it outlives the
// terminal. The channel tells if it ends while we watch.
func spawnKeeper(home Home, exe string) (<-chan error, error) {
	log, err := openLog(home)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(exe, "keeper")
	cmd.Dir = string(home)
	cmd.Env = append(processEnv(home), logEnv+"=file")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	died := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		if err == nil {
			err = errors.New("it ended")
		}
		died <- err
	}()
	return died, nil
}

// processEnv is what gapless's own processes get: nothing of the caller's
// shell but what names places.
func processEnv(home Home) []string {
	env := []string{"GAPLESS_HOME=" + string(home)}
	for _, name := range []string{"PATH", "HOME", "TZ", "NOTIFY_SOCKET", "GOCOVERDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// openLog opens gapless.log for the last words of a keeper; all else that it
// says it writes there itself, and keeps the file small.
func openLog(home Home) (*os.File, error) {
	return os.OpenFile(home.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
}

// Stop ends an installation: every app is drained and stopped, then daemon,
// edges and keeper end. It returns when nothing is left. Where nothing runs,
// it does nothing.
func Stop(ctx context.Context, home Home) error {
	err := Client(home).Shutdown(ctx)
	if err != nil && !api.NoDaemon(err) {
		return err
	}
	k, err := keeper.Dial(ctx, keeper.SocketPath(home.Run()))
	if err != nil {
		return nil // nobody holds anything any more
	}
	defer func() { _ = k.Close() }()
	return k.Shutdown(ctx, 10*time.Second)
}

// Executable is the binary that keeper, daemon and edge are started from.
func Executable() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	if strings.HasSuffix(exe, deleted) {
		return "/proc/self/exe", nil // the file was replaced, but this is still it
	}
	return filepath.EvalSymlinks(exe)
}
