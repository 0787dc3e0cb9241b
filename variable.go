package gapless

import (
	"regexp"
	"strings"
	"time"
	"unicode/utf8"
)

// Secret is a value that an app's releases get as a variable and that is kept
// encrypted. Its value is never shown.
type Secret struct {
	Name string    `json:"name"`
	Set  time.Time `json:"set"` // when its value was last given
}

// MaxSecret bounds the value of one secret, in bytes: an environment carries
// no more than 128 KiB per variable.
const MaxSecret = 64 << 10

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// CheckVariable refuses names of variables that no app may set.
func CheckVariable(name string) *Error {
	switch {
	case !variableName.MatchString(name):
		if len(name) > 60 {
			name = name[:60] + "…"
		}
		return Errorf(Invalid, "%q is not a name of an environment variable: letters, digits and _, not a digit first", name)
	case name == "PORT":
		return Errorf(Invalid, "PORT is chosen by gapless for every instance").
			WithHint("the port that people use is set by listen, as in listen: :8080")
	case strings.HasPrefix(name, "GAPLESS_"):
		return Errorf(Invalid, "%s: names that start with GAPLESS_ are gapless's own", name)
	}
	return nil
}

// CheckSecret says what is wrong with a secret, without showing it.
func CheckSecret(name, value string) *Error {
	if err := CheckVariable(name); err != nil {
		return err
	}
	var err *Error
	switch {
	case value == "":
		return Errorf(Invalid, "the value of %s is empty", name).WithHint("to remove it: gapless secrets rm %s", name)
	case len(value) > MaxSecret:
		err = Errorf(Invalid, "the value of %s is larger than %d KiB", name, MaxSecret>>10)
	case strings.ContainsRune(value, 0):
		err = Errorf(Invalid, "the value of %s holds a NUL byte, which no environment can carry", name)
	case !utf8.ValidString(value):
		err = Errorf(Invalid, "the value of %s is not UTF-8 text", name)
	default:
		return nil
	}
	return err.WithHint("keep such data in a file, or encode it: base64 FILE | gapless secrets set %s", name)
}

// secretWords are parts of names whose values are rarely meant to be read.
var secretWords = regexp.MustCompile(`(^|_)(PASS|PASSWD|PASSWORD|PASSPHRASE|PWD|TOKEN|SECRET|KEY|APIKEY|CREDENTIAL|CREDENTIALS|DSN|AUTH|PRIVATE|SALT|SIGNATURE)S?($|_)`)

var credentialsInURL = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://[^/@\s]*:[^/@\s]+@`)

// LooksSecret guesses by its name, and by credentials inside a URL, whether
// the value of a variable should not be seen.
func LooksSecret(name, value string) bool {
	snake := strings.ToUpper(camel.ReplaceAllString(name, "${1}_${2}"))
	return secretWords.MatchString(snake) || credentialsInURL.MatchString(value)
}

var camel = regexp.MustCompile(`([a-z0-9])([A-Z])`)
