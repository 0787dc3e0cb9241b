package config

import (
	"maps"
	"strings"
	"unicode/utf8"

	"gapless"
)

// Environment returns the variables of every process of app: the files of
// EnvFiles in their order (later ones win), then Env over them. A process's
// own Env goes over the result. PORT is left out of files, where it is
// common: gapless chooses it. The error is a *gapless.Error that holds every
// problem of every file and shows no values.
func Environment(app *gapless.App) (map[string]string, error) {
	p := &problems{}
	env := map[string]string{}
	for _, path := range app.EnvFiles {
		data, f := readFile(path, maxFile)
		if f != nil {
			p.add(place{file: path}, f)
			continue
		}
		maps.Copy(env, parseEnv(path, string(data), p))
	}
	maps.Copy(env, app.Env)
	if err := p.err(); err != nil {
		return nil, err
	}
	return env, nil
}

// environment checks the files that Environment will read.
func (s *settings) environment(p *problems) {
	for i, path := range s.app.EnvFiles {
		name := strings.TrimPrefix(path, s.app.Source+"/")
		data, f := readFile(path, maxFile)
		if f != nil {
			f.message = quote(name) + " " + f.message
			p.add(s.envFiles[i], f)
			continue
		}
		parseEnv(name, string(data), p)
	}
}

// nameLetters may be shown in messages: letters of names and of their usual misspellings.
const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-."

// parseEnv reads KEY=VALUE lines. Values are taken as they are, or in single
// quotes (as they are), or in double quotes (\n \r \t \" \\ \$); quoted ones
// may span lines. Comments start with # at a line's start or after a space.
// Nothing is expanded. Messages never show a value: it may be a secret.
func parseEnv(file, data string, p *problems) map[string]string {
	env := map[string]string{}
	if !utf8.ValidString(data) || strings.ContainsRune(data, 0) {
		p.add(place{file: file}, faultf("the file is not UTF-8 text"))
		return env
	}
	lines := strings.Split(strings.ReplaceAll(data, "\r\n", "\n"), "\n")
	seen := map[string]int{}
	for i := 0; i < len(lines); i++ {
		line := strings.TrimLeft(lines[i], " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		at := place{file: file, line: i + 1, col: len(lines[i]) - len(line) + 1, width: 1}
		if rest, ok := strings.CutPrefix(line, "export "); ok {
			line = strings.TrimLeft(rest, " \t")
			at.col = len(lines[i]) - len(line) + 1
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			p.add(at, faultf("the line has no =").withHint("write NAME=value, or start a comment with #"))
			continue
		}
		name = strings.TrimRight(name, " \t")
		at.text = lines[i][:at.col-1] + name + "=…"
		at.width = utf8.RuneCountInString(name)
		if f := checkEnvName(name); f != nil && name != "PORT" {
			if strings.Trim(name, nameLetters) != "" {
				at.text = "" // it may be a part of a value that went astray
				f = faultf("what stands before = is not the name of an environment variable").withHint("write NAME=value; a value of several lines needs quotes")
			}
			p.add(at, f)
			continue
		}
		if first, twice := seen[name]; twice {
			p.add(at, faultf("%s is given twice, first in line %d", name, first))
			continue
		}
		seen[name] = i + 1
		text, more, f := envValue(strings.TrimLeft(value, " \t"), lines[i+1:])
		i += more
		if f != nil {
			p.add(at, f)
			return env // what follows may be the inside of this value
		}
		if name != "PORT" {
			env[name] = text
		}
	}
	return env
}

// envValue reads a value and says how many further lines it took.
func envValue(s string, further []string) (value string, more int, f *fault) {
	if s == "" || s[0] != '"' && s[0] != '\'' {
		if i := strings.Index(s, " #"); i >= 0 {
			s = s[:i]
		}
		if strings.HasPrefix(s, "#") {
			s = ""
		}
		return strings.TrimRight(s, " \t"), 0, nil
	}
	mark := s[0]
	rest := s[1:]
	var b strings.Builder
	for {
		end := -1
		for i := 0; i < len(rest); i++ {
			switch c := rest[i]; {
			case c == mark:
				end = i
			case c == '\\' && mark == '"' && i+1 < len(rest):
				i++
				b.WriteString(unescape(rest[i]))
				continue
			default:
				b.WriteByte(c)
				continue
			}
			break
		}
		if end >= 0 {
			if tail := strings.TrimLeft(rest[end+1:], " \t"); tail != "" && tail[0] != '#' {
				return "", more, faultf("text follows the closing quote").withHint(`write \" for a quote inside double quotes`)
			}
			return b.String(), more, nil
		}
		if more == len(further) {
			return "", more, faultf("the quote %c is not closed", mark)
		}
		b.WriteByte('\n')
		rest = further[more]
		more++
	}
}

func unescape(c byte) string {
	switch c {
	case 'n':
		return "\n"
	case 'r':
		return "\r"
	case 't':
		return "\t"
	case '"', '\\', '$':
		return string(c)
	}
	return `\` + string(c)
}
