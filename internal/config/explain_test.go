package config

import (
	"encoding/json"
	"strings"
	"testing"

	"gapless"
)

func TestExplainSaysWhereFrom(t *testing.T) {
	dir := write(t, map[string]string{
		FileName:       "app: shop\ninstances: 3\nenv: { KEY: s3cret }\nhealth: /up\nlogs: { max_size: 1536K }\nprocesses:\n  worker: { run: node w.js, env: { Q: s3cret } }\nlimits: { body: 1M }\n",
		"package.json": `{"name": "other", "scripts": {"start": "node server.js", "build": "tsc"}}`,
	})
	list, err := explain(Input{Dir: dir, Instances: 2, Env: map[string]string{"MORE": "s3cret"}, Earlier: &gapless.Flags{Listen: []string{":9000"}}}, 8)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]string{}
	for _, s := range list {
		value, err := json.Marshal(s.Value)
		if err != nil {
			t.Fatal(err)
		}
		have[s.Key] = string(value) + " " + s.From
	}
	for key, want := range map[string]string{
		"app": `"shop" gapless.yaml:1`, "instances": `2 --instances`, "listen": `[":9000"] --listen of the last time`,
		"run": `null package.json or server.js`, "build": `"npm run build" package.json`, "env": `["KEY","MORE"] gapless.yaml:3`,
		"drain": `"30s" default`, "health": `{"interval":"2s","path":"/up","timeout":"2s"} gapless.yaml:4`,
		"logs":      `{"keep":10,"max_age":"24h","max_size":"1536K"} gapless.yaml:5`,
		"processes": `{"worker":{"env":["Q"],"instances":1,"run":"node w.js"}} gapless.yaml:7`,
		"strategy":  `"rolling" default`,
		"limits":    `{"body":"1M","body_rate":"240","exempt":["loopback"],"header_size":"16K","headers":128,"held":1000,"held_size":"64M"} gapless.yaml:8`,
		"timeouts":  `{"answer":"5m","body":"1m","head":"30s","idle":"1m15s","write":"2m"} default`,
		"balance":   `{"eject":true,"retries":0.2,"slow_start":"30s"} default`,
	} {
		if have[key] != want {
			t.Errorf("%s: %s, want %s", key, have[key], want)
		}
	}
	if all, _ := json.Marshal(list); strings.Contains(string(all), "s3cret") {
		t.Errorf("a value of a variable is shown: %s", all)
	}
	r, s := newReader(FileName, nil, &problems{}), defaults("/", 1)
	keys := s.keys(r)
	for _, s := range list {
		if keys[s.Key] == nil {
			t.Errorf("%s is no key of the file", s.Key)
		}
	}
}
