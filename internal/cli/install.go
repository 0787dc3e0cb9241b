package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gapless"
	"gapless/internal/api"
	"gapless/internal/daemon"
)

// unitMark is the first line of every unit that is ours to change or remove.
const unitMark = "# Made by gapless install; gapless uninstall removes it."

// service is a systemd unit that runs keeper.
type service struct {
	name string
	user bool // of the person's own systemd, not the machine's
	home daemon.Home
	exe  string
	stop time.Duration
}

// text is the unit file. keeper is the main process. Everything that it
// started counts as the service: when keeper alone dies, apps serve on and the
// next keeper names itself the main one.
func (s service) text() string {
	target := "multi-user.target"
	if s.user {
		target = "default.target"
	}
	return strings.Join([]string{
		unitMark,
		"[Unit]",
		"Description=gapless (" + escapeUnit(string(s.home), false) + ")",
		"Wants=network-online.target",
		"After=network-online.target",
		"StartLimitIntervalSec=0",
		"",
		"[Service]",
		"Type=notify",
		"NotifyAccess=all",
		"ExitType=cgroup",
		"ExecStart=" + quoteUnit(s.exe, true) + " keeper",
		"Environment=" + quoteUnit("GAPLESS_HOME="+string(s.home), false),
		"Restart=always",
		"RestartSec=1",
		"# SIGTERM goes to keeper, which drains edges and instances and then ends them.",
		"KillMode=mixed",
		fmt.Sprintf("TimeoutStopSec=%d", int(s.stop.Seconds())),
		"# Limits per instance need control groups of their own.",
		"Delegate=yes",
		"# An instance that uses too much memory is replaced; the rest has nothing to do with it.",
		"OOMPolicy=continue",
		"LimitNOFILE=1048576",
		"TasksMax=infinity",
		"",
		"[Install]",
		"WantedBy=" + target,
		"",
	}, "\n")
}

// escapeUnit takes the special meaning from what systemd would replace.
func escapeUnit(s string, command bool) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if command {
		s = strings.ReplaceAll(s, "$", "$$")
	}
	return s
}

func quoteUnit(s string, command bool) string {
	s = strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
	return `"` + escapeUnit(s, command) + `"`
}

// path is where systemd looks for the unit.
func (s service) path() (string, error) {
	if !s.user {
		return filepath.Join("/etc/systemd/system", s.name+".service"), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", gapless.Errorf(gapless.Invalid, "find the directory of user services: %w", err).WithHint("set HOME")
	}
	return filepath.Join(dir, "systemd", "user", s.name+".service"), nil
}

// systemctl runs systemctl for the machine's or the person's systemd.
func (s service) systemctl(ctx context.Context, args ...string) error {
	if s.user {
		args = append([]string{"--user"}, args...)
	}
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return gapless.Errorf(gapless.Unavailable, "systemctl %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(string(out))).
			WithHint("the unit file is written; run that command by hand")
	}
	return nil
}

// runs reports whether that systemd is there to be asked.
func (s service) runs() bool {
	dir := "/run/systemd/system"
	if s.user {
		dir = filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "systemd")
		if os.Getenv("XDG_RUNTIME_DIR") == "" {
			return false
		}
	}
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// ours refuses where the unit at path was made by somebody else.
func ours(path string) (there bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && !strings.HasPrefix(string(data), unitMark) {
		err = gapless.Errorf(gapless.Conflict, "%s was not made by gapless install", path).WithHint("choose another --name, or move that file away")
	}
	return err == nil, err
}

var unitName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`)

// fill makes the service that flags and environment speak of.
func (s service) fill() (service, error) {
	if !unitName.MatchString(s.name) {
		return s, gapless.Errorf(gapless.Invalid, "%q is no name for a service", s.name).WithHint("letters, digits, and - . _ inside")
	}
	var err error
	if s.home, err = daemon.DefaultHome(); err != nil {
		return s, err
	}
	if s.exe, err = daemon.Executable(); err != nil {
		return s, err
	}
	if !s.user && os.Geteuid() != 0 {
		return s, gapless.Errorf(gapless.NotAllowed, "only root may change the services of this machine").
			WithHint("sudo gapless install, or gapless install --user")
	}
	return s, nil
}

func (s *service) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.name, "name", "gapless", "name of the service; another one for each GAPLESS_HOME")
	cmd.Flags().BoolVar(&s.user, "user", false, "a service of yours, not of the machine")
}

func (c *command) install() *cobra.Command {
	var s service
	var print bool
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Let systemd start gapless with the machine",
		Long: `Write a systemd unit for this GAPLESS_HOME, and enable and start it. After a
reboot everything that was up comes up again: web first, then workers, then
cron.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if s.stop < time.Second {
				return gapless.Errorf(gapless.Invalid, "--stop-timeout %s is too short", s.stop)
			}
			s, err := s.fill()
			if print && gapless.CodeOf(err) == gapless.NotAllowed {
				err = nil // to look at it anybody may
			}
			if err != nil {
				return err
			}
			if print && c.json {
				return c.term.json(map[string]string{"service": s.name, "text": s.text()})
			}
			if print {
				c.term.answerf("%s", strings.TrimSuffix(s.text(), "\n"))
				return nil
			}
			return c.installService(cmd.Context(), s)
		},
	}
	s.flags(cmd)
	cmd.Flags().BoolVar(&print, "print", false, "only print the unit")
	cmd.Flags().DurationVar(&s.stop, "stop-timeout", 5*time.Minute, "how long a stop may take; longer than the longest drain and grace together")
	return cmd
}

func (c *command) installService(ctx context.Context, s service) error {
	path, err := s.path()
	if err != nil {
		return err
	}
	if _, err := ours(path); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return gapless.Errorf(gapless.Unavailable, "write the unit: %w", err).WithHint("gapless install --print shows it; write it by hand")
	}
	if err := os.WriteFile(path, []byte(s.text()), 0o644); err != nil {
		return gapless.Errorf(gapless.Unavailable, "write the unit: %w", err).WithHint("gapless install --print shows it; write it by hand")
	}
	done := installed{Service: s.name, Unit: path}
	if !c.json {
		c.term.answerf("%s wrote %s", good.Render("✓"), path)
	}
	if !s.runs() {
		c.term.hintf("systemd does not run here; where it does: systemctl daemon-reload, then systemctl enable --now %s", s.name)
		return c.installed(done)
	}
	for _, args := range [][]string{{"daemon-reload"}, {"enable", s.name}} {
		if err := s.systemctl(ctx, args...); err != nil {
			return err
		}
	}
	done.Enabled = true
	if s.user {
		c.term.hintf("to start without a login: loginctl enable-linger")
	}
	if up(ctx, s.home) {
		c.term.hintf("gapless runs already, started by hand; systemd takes over with the next start of the machine, or now, with a pause: gapless down --all && systemctl start %s", s.name)
		return c.installed(done)
	}
	if err := s.systemctl(ctx, "start", s.name); err != nil {
		return err
	}
	if !c.json {
		c.term.answerf("%s %s is enabled and runs", good.Render("✓"), s.name)
	}
	done.Started = true
	return c.installed(done)
}

// installed is what `gapless install --json` prints.
type installed struct {
	Service string `json:"service"`
	Unit    string `json:"unit"`    // path of the file
	Enabled bool   `json:"enabled"` // systemd starts it with the machine
	Started bool   `json:"started"` // by this command
}

func (c *command) installed(done installed) error {
	if c.json {
		return c.term.json(done)
	}
	return nil
}

// up reports whether a daemon answers in that home.
func up(ctx context.Context, home daemon.Home) bool {
	_, err := api.NewClient(home.APISocket()).Status(ctx)
	return err == nil || !api.NoDaemon(err)
}
