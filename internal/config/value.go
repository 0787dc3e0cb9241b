package config

import (
	"fmt"
	"math"
	"net/netip"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gapless"

	"github.com/robfig/cron/v3"
)

// maxName keeps names short enough for socket paths, instance ids and tables.
const maxName = 40

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	envNameForm = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	userForm    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*\$?$`)
	hostForm    = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	sizeForm    = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)$`)
	headerForm  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	numberForm  = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
)

// label makes a valid name of any text, "" if nothing of it can be used.
func label(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	out := b.String()
	if len(out) > maxName {
		out = out[:maxName]
	}
	return strings.Trim(out, "-")
}

func checkName(s string) *fault {
	if nameForm.MatchString(s) && len(s) <= maxName {
		return nil
	}
	f := faultf("%s is not a name: 1 to %d of a-z, 0-9 and -, not at its ends", quote(s), maxName)
	if l := label(s); l != "" {
		f = f.withHint("write %s", l)
	}
	return f
}

func checkEnvName(s string) *fault {
	err := gapless.CheckVariable(s)
	if err == nil {
		return nil
	}
	return &fault{message: err.Message, hint: err.Hint}
}

func checkEnvValue(name, value string) *fault {
	if strings.ContainsRune(value, 0) {
		return faultf("the value of %s holds a NUL byte, which no environment can carry", name)
	}
	return nil
}

// checkRun refuses commands that no shell could read either.
func checkRun(s string) *fault {
	if strings.TrimSpace(s) == "" {
		return faultf("run is empty").withHint("write a command, as in run: node server.js")
	}
	if strings.ContainsRune(s, 0) {
		return faultf("run holds a NUL byte")
	}
	var in rune
	escaped := false
	for _, r := range s {
		switch {
		case escaped:
			escaped = false
		case r == '\\' && in != '\'':
			escaped = true
		case in == 0 && (r == '"' || r == '\''):
			in = r
		case r == in:
			in = 0
		}
	}
	switch {
	case in != 0:
		return faultf("run has a quote %c that is not closed", in)
	case escaped:
		return faultf("run ends in a backslash")
	}
	return nil
}

func checkUser(s string) *fault {
	if !userForm.MatchString(s) {
		return faultf("%s is not a user name", quote(s)).withHint("write the name of a system user, as in user: www-data")
	}
	return nil
}

// checkPath accepts a URL path without query, dots or encoded parts.
func checkPath(s string) *fault {
	switch {
	case !strings.HasPrefix(s, "/"):
		return faultf("%s is not a path: it must start with /", quote(s)).withHint("write /%s", strings.TrimLeft(s, "./"))
	case strings.ContainsAny(s, "?#%\\"):
		return faultf("%s is not a plain path: no ?, #, %% or backslash", quote(s))
	}
	for _, r := range s {
		if r <= ' ' || r > '~' {
			return faultf("%s is not a plain path: no spaces, control characters or letters beyond ASCII", quote(s))
		}
	}
	if clean := path.Clean(s); clean != s && clean+"/" != s {
		return faultf("%s is not a plain path", quote(s)).withHint("write %s", clean)
	}
	return nil
}

// checkProbe is checkPath that lets a query through.
func checkProbe(s string) *fault {
	before, query, _ := strings.Cut(s, "?")
	for _, r := range query {
		if r <= ' ' || r > '~' || r == '#' {
			return faultf("%s is not a path with a plain query", quote(s))
		}
	}
	return checkPath(before)
}

func parseDuration(s string) (time.Duration, *fault) {
	const forms = "write a number with its unit: 500ms, 10s, 2m, 24h"
	d, err := time.ParseDuration(s)
	switch {
	case err != nil && numberForm.MatchString(s):
		return 0, faultf("%s has no unit", s).withHint("write %ss for seconds", s)
	case err != nil:
		return 0, faultf("%s is not a duration", quote(s)).withHint(forms)
	case d < 0:
		return 0, faultf("%s is negative", s).withHint(forms)
	}
	return d, nil
}

// parseSize reads bytes with a unit; units are powers of 1024.
func parseSize(s string) (int64, *fault) {
	const forms = "write a number with its unit: 300M, 1.5G"
	m := sizeForm.FindStringSubmatch(s)
	if m == nil {
		return 0, faultf("%s is not a size", quote(s)).withHint(forms)
	}
	unit := strings.TrimSuffix(strings.TrimSuffix(strings.ToUpper(m[2]), "B"), "I")
	shift, ok := map[string]uint{"": 0, "K": 10, "M": 20, "G": 30, "T": 40}[unit]
	if !ok {
		return 0, faultf("%s is not a size: unknown unit %s", quote(s), quote(m[2])).withHint(forms)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	bytes := v * float64(uint64(1)<<shift)
	if err != nil || bytes > math.MaxInt64/2 {
		return 0, faultf("%s is too large", quote(s)).withHint(forms)
	}
	return int64(bytes), nil
}

// parseShare reads a share of traffic or of answers: 5%, 0.05 or 1 for all.
func parseShare(s string) (float64, *fault) {
	number, percent := strings.CutSuffix(s, "%")
	number = strings.TrimSpace(number)
	v, bad := parseNumber(number)
	if bad {
		return 0, faultf("%s is not a share", quote(s)).withHint("write 5%%, 0.05, or 1 for all")
	}
	if percent {
		v /= 100
	}
	switch {
	case v > 1 && percent:
		return 0, faultf("%s is more than all", s).withHint("write 100%% for all")
	case v > 1 && v <= 100:
		return 0, faultf("%s is more than all, which is 1", s).withHint("write %s%% for percent", s)
	case v > 1:
		return 0, faultf("%s is more than all, which is 1", s).withHint("write 5%%, 0.05, or 1 for all")
	}
	return v, nil
}

// parseNumber reads a number without a sign; bad: it is none.
func parseNumber(s string) (v float64, bad bool) {
	v, err := strconv.ParseFloat(s, 64)
	return v, err != nil || !numberForm.MatchString(s)
}

// parseHeader reads "Name: value", both needed.
func parseHeader(s string) (name, value string, f *fault) {
	name, value, ok := strings.Cut(s, ":")
	value = strings.TrimSpace(value)
	if !ok || value == "" || !headerForm.MatchString(name) {
		return "", "", faultf("%s is not a header with its value", quote(s)).withHint(`write header: "X-Preview: next"`)
	}
	for _, r := range value {
		if r < ' ' || r > '~' {
			return "", "", faultf("the value of header %s holds characters that no request can carry", name)
		}
	}
	return name, value, nil
}

// Listen normalises an edge address to ":port" or "host:port". Code: Invalid.
func Listen(s string) (string, error) {
	addr, f := parseListen(s)
	return addr, f.asError()
}

// Host normalises a host name to lower case. Code: Invalid.
func Host(s string) (string, error) {
	name, f := parseHost(s)
	return name, f.asError()
}

// Path checks a plain URL path. Code: Invalid.
func Path(s string) error { return checkPath(s).asError() }

// Share reads 5%, 0.05 or 1 for all. Code: Invalid.
func Share(s string) (float64, error) {
	v, f := parseShare(s)
	return v, f.asError()
}

// Size reads bytes with a unit, a power of 1024: 300M, 1.5G. Code: Invalid.
func Size(s string) (int64, error) {
	n, f := parseSize(s)
	return n, f.asError()
}

// parseListen normalises an edge address to ":port" or "host:port".
func parseListen(s string) (string, *fault) {
	const forms = "write :8080 for every address of this machine, or 127.0.0.1:8080"
	if strings.Contains(s, "://") || strings.Contains(s, "/") {
		return "", faultf("%s is not an address to listen on", quote(s)).withHint(forms)
	}
	host, port := "", s
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i+1:]
	}
	n, err := strconv.Atoi(port)
	switch {
	case err != nil || !numberForm.MatchString(port):
		return "", faultf("%s is not an address to listen on: %s is not a port", quote(s), quote(port)).withHint(forms)
	case n < 1 || n > 65535:
		return "", faultf("port %s is not between 1 and 65535", port)
	}
	switch bare := strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"); {
	case host == "" || host == "*":
		host = ""
	case bare != host: // [::1]
		a, err := netip.ParseAddr(bare)
		if err != nil || !a.Is6() {
			return "", faultf("%s is not an IPv6 address", quote(host)).withHint(forms)
		}
		host = "[" + a.String() + "]"
	case strings.Contains(host, ":"):
		return "", faultf("%s is not an address to listen on", quote(s)).withHint("write an IPv6 address in brackets: [%s]:%s", host, port)
	case host == "localhost":
	default:
		if _, err := netip.ParseAddr(host); err != nil {
			return "", faultf("%s is not an address of this machine", quote(host)).withHint("%s; which host names are served is set by hosts", forms)
		}
	}
	return fmt.Sprintf("%s:%d", host, n), nil
}

// parseHost normalises a host name to lower case.
func parseHost(s string) (string, *fault) {
	h := strings.TrimSuffix(strings.ToLower(s), ".")
	switch {
	case strings.Contains(h, "://"), strings.Contains(h, "/"), strings.Contains(h, ":"):
		return "", faultf("%s is not a host name: no scheme, port or path", quote(s)).withHint("write shop.example.com; ports are set by listen, paths by path")
	case strings.Contains(h, "*"):
		return "", faultf("%s is not a host name: a * can only stand for what is before the first dot of hosts", quote(s)).withHint("write *.example.com")
	case len(h) > 253 || !hostForm.MatchString(h):
		return "", faultf("%s is not a host name", quote(s)).withHint("letters, digits, - and dots; other alphabets in their xn-- form")
	}
	return h, nil
}

// parseShared normalises a directory inside the app.
func parseShared(s string) (string, *fault) {
	clean := path.Clean(s)
	switch {
	case strings.ContainsRune(s, 0), strings.TrimSpace(s) == "":
		return "", faultf("%s is not a directory", quote(s))
	case strings.HasPrefix(s, "/"):
		return "", faultf("%s is absolute, but shared directories live inside the app", quote(s)).withHint("write it relative to the app's directory, as in shared: [uploads]")
	case clean == "." || clean == ".." || strings.HasPrefix(clean, "../"):
		return "", faultf("%s is not inside the app's directory", quote(s)).withHint("name a directory of the app, as in shared: [uploads]")
	case clean == "node_modules" || clean == ".git":
		return "", faultf("%s cannot be shared: it belongs to one release", quote(s))
	}
	return clean, nil
}

// parseAssets normalises a directory of files that clients may ask for later.
func parseAssets(s string) (string, *fault) {
	clean := path.Clean(s)
	switch {
	case strings.ContainsRune(s, 0), strings.TrimSpace(s) == "":
		return "", faultf("%s is not a directory", quote(s))
	case strings.HasPrefix(s, "/"), clean == ".", clean == "..", strings.HasPrefix(clean, "../"):
		return "", faultf("%s is not a directory inside the app", quote(s)).withHint("name the directory of what clients load, as in assets: public/")
	case clean == "node_modules" || strings.HasPrefix(clean, "node_modules/"):
		return "", faultf("%s belongs to one release", quote(s))
	}
	return clean, nil
}

func checkCron(s string) *fault {
	if strings.Contains(s, "=") { // the library's TZ= prefix; schedules are in local time
		return faultf("%s is not a schedule: a time zone cannot be given", quote(s)).withHint("schedules are in the machine's local time")
	}
	if _, err := cron.ParseStandard(s); err != nil {
		return faultf("%s is not a schedule: %v", quote(s), err).withHint(`five fields: minute hour day month weekday, as in "0 3 * * *"`)
	}
	return nil
}

func parseCPU(s string) (float64, *fault) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || !numberForm.MatchString(s) || v <= 0 || v > 1024 {
		return 0, faultf("%s is not a number of cores", quote(s)).withHint("write 0.5 for half a core, 2 for two")
	}
	return v, nil
}
