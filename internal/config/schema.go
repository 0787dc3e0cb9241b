package config

import (
	"maps"
	"slices"

	"gapless"
)

// schema is a JSON Schema, or a part of one.
type schema = map[string]any

// Schema is the JSON Schema of gapless.yaml, for editors. Its keys are those
// that the reader knows; it describes the form of their values, and leaves to
// the reader what one value means beside the others.
func Schema() map[string]any {
	r, s := newReader(FileName, nil, &problems{}), defaults("/", 1)
	app := objectOf(s.keys(r), s.forms(r))
	app["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	app["title"] = FileName
	return app
}

// objectOf is a map that has the given keys and no others. A key without a
// form may be anything; a test sees to it that there is none.
func objectOf[T any](keys map[string]T, forms map[string]schema) schema {
	props := schema{}
	for key := range keys {
		if form, ok := forms[key]; ok {
			props[key] = form
		} else {
			props[key] = schema{}
		}
	}
	return schema{"type": "object", "properties": props, "additionalProperties": false}
}

// about adds what people read to a form.
func about(text string, form schema) schema {
	out := maps.Clone(form)
	out["description"] = text
	return out
}

func anyOf(forms ...schema) schema { return schema{"anyOf": forms} }

func oneOrMore(form schema) schema {
	return anyOf(form, schema{"type": "array", "items": form, "minItems": 1})
}

func text(pattern string) schema { return schema{"type": "string", "pattern": pattern} }

func whole(lo, hi int) schema { return schema{"type": "integer", "minimum": lo, "maximum": hi} }

func oneOf(words []string) schema { return schema{"enum": words} }

// Forms that several keys share.
func someText() schema    { return text(`\S`) }
func trueOrFalse() schema { return schema{"type": "boolean"} }
func durationForm() schema {
	return anyOf(text(`^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$|^0$`), schema{"enum": []int{0}})
}
func sizeOf() schema {
	return anyOf(text(`^[0-9]+(\.[0-9]+)?\s*[A-Za-z]*$`), schema{"type": "number", "minimum": 0})
}
func shareForm() schema {
	return anyOf(text(`^[0-9]+(\.[0-9]+)?\s*%?$`), schema{"type": "number", "minimum": 0})
}
func coresForm() schema {
	return anyOf(text(`^[0-9]+(\.[0-9]+)?$`), schema{"type": "number", "exclusiveMinimum": 0})
}
func countForm() schema { return anyOf(whole(1, 1000), schema{"enum": []string{"max"}}) }
func envForm() schema {
	return schema{"type": "object", "propertyNames": text(envNameForm.String()),
		"additionalProperties": schema{"type": []string{"string", "number", "boolean"}}}
}

// forms describe the values of the top-level keys.
func (s *settings) forms(r *reader) map[string]schema {
	name, run := text(nameForm.String()), someText()
	judge := objectOf(r.judgeKeys(&gapless.JudgeSpec{}), r.judgeForms())
	mirror := objectOf(r.mirrorKeys(&gapless.Mirror{}), map[string]schema{
		"percent": about("share of the safe requests that is copied", shareForm()), "for": about("how long", durationForm()),
		"compare": about("what of the answers", oneOf(comparisons)), "ignore": about("parts of JSON bodies that may differ: /items/*/updatedAt", oneOrMore(text(`^/`))),
		"deadline": about("of one copy", durationForm()), "header": about("that copies carry, as Name: value", text(`:`)),
		"credentials":   about("whether copies have Cookie and Authorization", oneOf(credentials)),
		"on_difference": about("what to do where answers differ", oneOf(undecided)), "then": about("strategy after a dark launch", oneOf(afterMirror))})
	health := objectOf(r.healthKeys(&gapless.Health{}), map[string]schema{
		"path": about("a 2xx or 3xx answer is ready", text(`^/`)), "interval": durationForm(), "timeout": durationForm(),
		"healthy":   about("good answers in a row that put an instance back", whole(1, 100)),
		"unhealthy": about("bad ones in a row that take it out", whole(1, 100))})
	balance := objectOf(r.balanceKeys(&gapless.Balance{}), map[string]schema{
		"slow_start": about("a new instance beside old ones gets its full share after this; 0: at once", durationForm()),
		"stable":     about("most requests in flight with the release that serves; more are refused", whole(1, 1_000_000)),
		"candidate":  about("most requests in flight with a candidate; more go to stable and count against it", whole(1, 1_000_000)),
		"retries":    about("share of all requests that may be repeated, beside three per second", shareForm()),
		"eject":      about("leave an instance alone for a while that requests do not get through to", trueOrFalse())})
	hsts := objectOf(r.hstsKeys(&gapless.HSTS{}), map[string]schema{
		"max_age": durationForm(), "subdomains": trueOrFalse(), "preload": about("may be put into browsers", trueOrFalse())})
	tls := objectOf(r.tlsKeys(&secured{}, "/"), map[string]schema{
		"cert": about("PEM file with the chain, leaf first; read again when it changes", someText()), "key": about("PEM file with its private key, mode 0600", someText()),
		"email": about("where the ACME server writes to", text(`@`)), "ca": about("URL of an ACME server's directory; default: Let's Encrypt", text(`^https://`)),
		"ca_root": about("PEM file with what signs that server's own certificate", someText()),
		"listen":  about("addresses that speak https; default: port 443", oneOrMore(anyOf(someText(), whole(1, 65535)))), "redirect": about("plain http is sent to https; default: true", trueOrFalse()),
		"hsts": about("browsers come by https only, for so long", anyOf(trueOrFalse(), durationForm(), hsts))})
	process := objectOf(s.processKeys(r, &gapless.Process{}), map[string]schema{
		"run": about("its command", run), "instances": about("how many run", countForm()),
		"singleton": about("never two at once", trueOrFalse()), "cron": about("a schedule of five fields, local time; @daily, @every 10m", someText()),
		"memory": about("per instance; over it: replaced", sizeOf()), "cpu": about("cores per instance", coresForm()),
		"env": about("its own variables", envForm())})
	matching := objectOf(r.matchKeys(&gapless.MatchRule{}), map[string]schema{
		"header": about("Name: value", text(`:`)), "cookie": about("name=value", text(`=`))})
	process["required"] = []string{"run"}
	return map[string]schema{
		"app":             about("name of the app", name),
		"run":             about("command of the web process; $PORT is expanded; false for none. Default: the start script of package.json", anyOf(run, schema{"enum": []bool{false}})),
		"build":           about("command run in each new release; false for none", anyOf(run, schema{"enum": []bool{false}})),
		"instances":       about("of the web process", countForm()),
		"memory":          about("per instance; over it: replaced", sizeOf()),
		"cpu":             about("cores per instance", coresForm()),
		"listen":          about("addresses that the edge listens on", oneOrMore(anyOf(someText(), whole(1, 65535)))),
		"host":            about("host names served", oneOrMore(someText())),
		"hosts":           about("host names served", oneOrMore(someText())),
		"path":            about("URL path prefix served", text(`^/`)),
		"health":          about("readiness and liveness of the web process: a path, or more", anyOf(text(`^/`), health)),
		"balance":         about("how requests are spread among instances", balance),
		"protocol":        about("what instances speak: h2c is HTTP/2 without TLS, for gRPC", oneOf([]string{gapless.ProtocolHTTP, gapless.ProtocolH2C})),
		"trusted_proxies": about("networks whose proxies are believed what they say about clients", oneOrMore(someText())),
		"proxy_protocol":  about("networks whose connections begin with a PROXY protocol header", oneOrMore(someText())),
		"trace":           about("pass: traceparent is only passed on, not made", oneOf([]string{gapless.TracePass})),
		"socket":          about("instances listen on a unix socket: true, its path is in PORT; fd, it is handed over as descriptor 3", anyOf(trueOrFalse(), schema{"enum": []string{"fd"}})),
		"drain":           about("longest wait for in-flight work before an instance is stopped", durationForm()),
		"grace":           about("between SIGTERM and SIGKILL", durationForm()),
		"start_timeout":   about("an instance must be ready within this time", durationForm()),
		"hold":            about("longest wait of a request while nothing is ready", durationForm()),
		"soak":            about("how long a rolling rollout watches its first batch", durationForm()),
		"strategy":        about("how a release takes over", oneOf(strategies)),
		"steps":           about("a plan of one's own", schema{"type": "array", "items": s.stepForm(r), "minItems": 1}),
		"judge":           about("what a judged step asks for", judge),
		"mirror":          about("how requests are copied to a candidate before it has traffic", mirror),
		"keep":            about("how long the old set stays warm after promote", durationForm()),
		"flip":            about("blue-green: all traffic at once, no judged step before", trueOrFalse()),
		"preview": about("how people reach a candidate before it has traffic", objectOf(r.previewKeys(&gapless.Preview{}), map[string]schema{
			"host": someText(), "header": about("Name: value", text(`:`)), "cookie": about("name=value; an address with ?name=value sets it", text(`=`))})),
		"strip":       about("instances get the URL without path", trueOrFalse()),
		"sticky":      about("the coin of a rollout is tossed once per client, for so long", anyOf(trueOrFalse(), durationForm())),
		"match":       about("requests that go to the new release while it is rolled out, whatever the coin", anyOf(matching, schema{"type": "array", "items": matching, "minItems": 1})),
		"skew":        about("pin: what a page loads comes from the release that the page came from", oneOf([]string{gapless.SkewPin})),
		"shared":      about("directories that outlive releases", oneOrMore(someText())),
		"assets":      about("directories of files that clients load; those of former releases keep answering", oneOrMore(someText())),
		"limits":      about("what clients may take of the app", objectOf(r.limitKeys(&gapless.Limits{}), limitForms())),
		"timeouts":    about("how long clients and instances are waited for", objectOf(r.timeoutKeys(&gapless.Timeouts{}), timeoutForms())),
		"error_pages": about("files of the release that the edge answers with, by status", pageForm()),
		"tls":         about("https: auto gets certificates by ACME; cert and key are files", anyOf(oneOf([]string{"auto"}), tls)),
		"releases": about("old releases that are kept for going back", objectOf(r.releaseKeys(&gapless.ReleasePolicy{}), map[string]schema{
			"keep": about("that served, beside those in use", whole(1, 1000)), "max_age": about("since one last served", durationForm())})),
		"user":     about("run instances as this system user", text(userForm.String())),
		"env":      about("variables of every process", envForm()),
		"env_file": about("files with variables", oneOrMore(someText())),
		"logs": about("bounds of the logs on disk", objectOf(r.logKeys(&gapless.LogPolicy{}), map[string]schema{
			"max_size": sizeOf(), "max_age": durationForm(), "keep": about("rotated files kept", whole(0, 1000))})),
		"access_log": about("a line per request; true, or more", anyOf(trueOrFalse(), objectOf(r.accessLogKeys(&gapless.AccessLog{}), map[string]schema{
			"path": about("absolute; default: access.log among the app's logs", text(`^/`)), "format": oneOf(gapless.AccessFormats()),
			"query":    about("write what follows the ?, too", trueOrFalse()),
			"max_size": sizeOf(), "max_age": durationForm(), "keep": about("rotated files kept", whole(0, 1000))}))),
		"notify":    about("who is told what happens to the app", notifyForm(r)),
		"alerts":    about("what alerts from outside do to the app", alertForm(r)),
		"slo":       about("share of answers that must be good, as in 99.9%; default: nothing is promised", shareForm()),
		"processes": about("processes beside the web process", schema{"type": "object", "propertyNames": name, "additionalProperties": anyOf(run, process)}),
	}
}

// stepForm is one step of a plan: a word, or a map with the word as its one key.
func (s *settings) stepForm(r *reader) schema {
	step := &gapless.Step{}
	kinds := s.stepKinds(r, step)
	valued := map[string]stepKind{}
	var bare []string
	for word, k := range kinds {
		if k.read != nil {
			valued[word] = k
		}
		if k.example == "" {
			bare = append(bare, word)
		}
	}
	slices.Sort(bare)
	judge := objectOf(r.judgeStepKeys(step), map[string]schema{"within": durationForm(), "on_undecided": oneOf(undecided)})
	hook := objectOf(r.hookKeys(step), map[string]schema{"run": someText(), "on_resume": oneOf([]string{"rerun", "fail", "ask"})})
	mirror := objectOf(r.mirrorStepKeys(step), map[string]schema{"percent": shareForm(), "for": durationForm(), "on_difference": oneOf(undecided)})
	hook["required"] = []string{"run"}
	nothing := schema{"type": "null"}
	m := objectOf(valued, map[string]schema{
		"start": about("so many more", countForm()), "scale": about("so many in all", countForm()),
		"weight": about("share of the traffic", shareForm()), "judge": about("at most so long", anyOf(durationForm(), judge, nothing)),
		"ramp":   about("the share rises as the release is proven, at most so long", anyOf(durationForm(), judge, nothing)),
		"mirror": about("share of the safe requests that is copied", anyOf(shareForm(), mirror, nothing)),
		"pause":  about("so long, or until a person resumes", anyOf(durationForm(), nothing)), "hook": about("a command", anyOf(someText(), hook)),
		"keep": about("the old set stays warm", durationForm()), "bake": about("the new release is watched after promote, and the old set stays warm", durationForm()),
	})
	props := m["properties"].(schema)
	for _, word := range bare {
		if props[word] == nil {
			props[word] = nothing
		}
	}
	m["minProperties"], m["maxProperties"] = 1, 1
	return anyOf(schema{"enum": bare}, m)
}
