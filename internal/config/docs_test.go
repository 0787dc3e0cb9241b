package config

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"gapless"
)

const reference = "../../docs/configuration.md"

// Every key is in the reference, and the reference has no others.
func TestEveryKeyIsDocumented(t *testing.T) {
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	r := newReader(FileName, nil, &problems{})
	s := defaults("/", 1)
	keys := map[string]bool{}
	add := func(prefix string, set map[string]setter) {
		for k := range set {
			keys[prefix+k] = true
		}
	}
	add("", s.keys(r))
	add("health.", r.healthKeys(&gapless.Health{}))
	add("balance.", r.balanceKeys(&gapless.Balance{}))
	add("judge.", r.judgeKeys(&gapless.JudgeSpec{}))
	add("judge.metrics.", r.metricKeys(&gapless.Metric{}))
	add("judge.metrics.prometheus.", r.prometheusKeys(&gapless.PrometheusQuery{}))
	add("judge.metrics.datadog.", r.datadogKeys(&gapless.DatadogQuery{}))
	add("judge.metrics.cloudwatch.", r.cloudWatchKeys(&gapless.CloudWatchQuery{}))
	add("judge.metrics.compare.", r.compareKeys(&gapless.Comparison{}))
	add("judge.synthetic.", r.syntheticKeys(&gapless.Synthetic{}))
	add("match.", r.matchKeys(&gapless.MatchRule{}))
	add("mirror.", r.mirrorKeys(&gapless.Mirror{}))
	add("tls.", r.tlsKeys(&secured{}, "/"))
	add("tls.hsts.", r.hstsKeys(&gapless.HSTS{}))
	add("preview.", r.previewKeys(&gapless.Preview{}))
	add("limits.", r.limitKeys(&gapless.Limits{}))
	add("timeouts.", r.timeoutKeys(&gapless.Timeouts{}))
	add("logs.", r.logKeys(&gapless.LogPolicy{}))
	add("access_log.", r.accessLogKeys(&gapless.AccessLog{}))
	add("releases.", r.releaseKeys(&gapless.ReleasePolicy{}))
	add("notify.", r.notifyKeys(&gapless.Notify{}))
	add("alerts.", r.alertKeys(&gapless.AlertPolicy{}))
	add("processes.<name>.", s.processKeys(r, &gapless.Process{}))

	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(string(text), -1) {
		for _, k := range strings.Split(row[1], ", ") {
			documented[strings.Trim(k, "`")] = true
		}
	}
	for word := range s.stepKinds(r, &gapless.Step{}) {
		if word != stepDrain && !strings.Contains(string(text), "\n| *"+word) {
			t.Errorf("%s does not document the step %s", reference, word)
		}
	}
	for k := range keys {
		if !documented[k] {
			t.Errorf("%s does not document %s", reference, k)
		}
	}
	for k := range documented {
		if !keys[k] {
			t.Errorf("%s documents %s, which is no key", reference, k)
		}
	}
}

// The examples of the reference load.
func TestDocumentedExamplesLoad(t *testing.T) {
	text, err := os.ReadFile(reference)
	if err != nil {
		t.Fatal(err)
	}
	examples := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(examples) < 2 {
		t.Fatalf("found %d examples", len(examples))
	}
	for _, e := range examples {
		dir := write(t, map[string]string{FileName: e[1], ".env": "A=1\n"})
		if _, err := load(Input{Dir: dir}, 2); err != nil {
			t.Errorf("%s\n%v", e[1], err)
		}
	}
}
