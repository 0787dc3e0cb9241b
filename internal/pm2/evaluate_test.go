package pm2_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gapless"
	"gapless/internal/pm2"
)

// A file that does not end is ended, with what it started.
func TestEvaluateEnds(t *testing.T) {
	for name, text := range map[string]string{
		"busy.js": `while (true) {}`,
		"waits.js": `module.exports = () => new Promise(() => {
			require('child_process').spawn('sleep', ['600'], { stdio: 'inherit' }); setInterval(() => {}, 1000) })`,
	} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		began := time.Now()
		_, err := pm2.Evaluate(ctx, file)
		cancel()
		if gapless.CodeOf(err) != gapless.Invalid || !strings.Contains(err.Error(), "did not end") {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 12*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
}

// What a file prints is bounded, and no part of the answer; what it leaves
// running is no reason to wait.
func TestEvaluatePrints(t *testing.T) {
	file := filepath.Join(t.TempDir(), "loud.js")
	text := `console.log('{"apps":5}'); console.error('x'.repeat(1 << 20)); setInterval(() => {}, 1000)
module.exports = { apps: [{ script: 'a.js', f: () => 1, u: undefined }] }`
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	data, err := pm2.Evaluate(t.Context(), file)
	if err != nil || string(data) != `{"apps":[{"script":"a.js"}]}` {
		t.Errorf("%s, %v", data, err)
	}
}
