package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"gapless"
)

var rolledBack = Message{Key: "r1/rolled_back", Event: gapless.NotifyRolledBack, Time: time.Unix(1e9, 0).UTC(), App: "shop",
	Text: "shop: v2 was taken back, v1 serves: 3 <bad> & worse", Reason: "3 <bad> & worse", Link: "https://ops.example.com/shop/r1",
	Rollout: &Rollout{ID: "r1", Kind: "deploy", From: "v1", To: "v2", Outcome: "rolled_back"}}

// receive is a receiver that answers as told and returns what it got last.
func receive(t *testing.T, answer http.HandlerFunc) (*httptest.Server, func() (http.Header, []byte)) {
	t.Helper()
	var head http.Header
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head = r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
		if r.Method != http.MethodPost {
			t.Errorf("%s", r.Method)
		}
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	return s, func() (http.Header, []byte) { return head, body }
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// The signature is what a receiver computes from the header and the bytes.
func TestWebhookIsSigned(t *testing.T) {
	s, got := receive(t, status(204))
	a := New("gapless/test", nil).Send(t.Context(), Target{URL: s.URL + "/hook", Secret: "hush hush"}, rolledBack)
	if !a.OK || a.Status != 204 {
		t.Fatalf("%+v", a)
	}
	head, body := got()
	var stamp int64
	var sum string
	if _, err := fmt.Sscanf(strings.Replace(head.Get("Gapless-Signature"), ",v1=", " ", 1), "t=%d %s", &stamp, &sum); err != nil {
		t.Fatalf("%q: %v", head.Get("Gapless-Signature"), err)
	}
	mac := hmac.New(sha256.New, []byte("hush hush"))
	fmt.Fprintf(mac, "%d.%s", stamp, body)
	if want := hex.EncodeToString(mac.Sum(nil)); want != sum {
		t.Errorf("signature %s, want %s", sum, want)
	}
	if age := time.Since(time.Unix(stamp, 0)); age < -time.Second || age > time.Minute {
		t.Errorf("signed %s ago", age)
	}
	if head.Get("Idempotency-Key") != "r1/rolled_back" || head.Get("Content-Type") != "application/json" || head.Get("User-Agent") != "gapless/test" {
		t.Errorf("%v", head)
	}
	var m Message
	if err := json.Unmarshal(body, &m); err != nil || m.Version != 1 || m.Key != rolledBack.Key || m.Rollout.To != "v2" || m.Text != rolledBack.Text {
		t.Errorf("%s (%v)", body, err)
	}
}

// A vector for receivers in other languages: docs/notifications.md has it, too.
func TestSignatureVector(t *testing.T) {
	const want = "t=1700000000,v1=6c49492c841520e805df0f6652ac4859b2bf8a94b97b7fe2664f0c02e62d2c85" // by Python's hmac
	if have := Sign("secret", time.Unix(1700000000, 0), []byte(`{"version":1}`)); have != want {
		t.Errorf("%s, want %s", have, want)
	}
}

func TestNotSignedWithoutSecret(t *testing.T) {
	s, got := receive(t, status(200))
	if a := New("x", nil).Send(t.Context(), Target{URL: s.URL}, rolledBack); !a.OK {
		t.Fatal(a)
	}
	if head, _ := got(); head.Get(SignatureHeader) != "" || head.Get(KeyHeader) == "" {
		t.Errorf("%v", head)
	}
}

// slack answers as Slack's documentation says: it takes application/json with
// text and blocks of the forms that it knows, and answers "ok" as text.
func slack(t *testing.T) http.HandlerFunc {
	refuse := func(w http.ResponseWriter, code int, why string) {
		w.WriteHeader(code)
		fmt.Fprint(w, why)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX" {
			refuse(w, 404, "no_service")
			return
		}
		if r.Header.Get("Content-Type") != "application/json" {
			refuse(w, 400, "invalid_payload")
			return
		}
		type words struct{ Type, Text string }
		var m struct {
			Text   string
			Blocks []struct {
				Type     string
				Text     *words
				Elements []words
			}
		}
		body, _ := io.ReadAll(r.Body)
		dec := json.NewDecoder(bytes.NewReader(body))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&m); err != nil {
			t.Errorf("slack: %v: %s", err, body)
			refuse(w, 400, "invalid_payload")
			return
		}
		if m.Text == "" || len(m.Blocks) == 0 || len(m.Blocks) > 50 {
			refuse(w, 400, "no_text")
			return
		}
		fine := func(x words, most int) bool {
			return x.Type == "mrkdwn" && x.Text != "" && utf8.RuneCountInString(x.Text) <= most && utf8.ValidString(x.Text)
		}
		for _, b := range m.Blocks {
			switch {
			case b.Type == "section" && b.Text != nil && fine(*b.Text, 3000) && b.Elements == nil:
			case b.Type == "context" && b.Text == nil && len(b.Elements) > 0 && len(b.Elements) <= 10 && fine(b.Elements[0], 3000):
			default:
				t.Errorf("slack: block %+v", b)
				refuse(w, 400, "invalid_blocks")
				return
			}
		}
		fmt.Fprint(w, "ok")
	}
}

const slackPath = "/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"

func TestSlackTakesIt(t *testing.T) {
	s := httptest.NewServer(slack(t))
	defer s.Close()
	long := rolledBack
	long.Text, long.Reason = strings.Repeat("ä<", 4000), strings.Repeat("&", 9000)
	for name, m := range map[string]Message{"usual": rolledBack, "long": long, "bare": {Key: "k", Event: "test", App: "shop", Text: "x"},
		"folded": Fold([]Message{rolledBack, rolledBack, long})} {
		if a := New("x", nil).Send(t.Context(), Target{Slack: true, URL: s.URL + slackPath}, m); !a.OK {
			t.Errorf("%s: %+v", name, a)
		}
	}
	a := New("x", nil).Send(t.Context(), Target{Slack: true, URL: s.URL + "/services/T00000000/B00000000/YYYYYYYYYYYYYYYYYYYYYYYY"}, rolledBack)
	if a.OK || !a.Final || !strings.Contains(a.Text, "404") || !strings.Contains(a.Text, "no_service") || strings.Contains(a.Text, "YYYY") {
		t.Errorf("%+v", a)
	}
}

func TestSlackEscapes(t *testing.T) {
	body, err := rolledBack.slackBody()
	if err != nil {
		t.Fatal(err)
	}
	var m slackMessage
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{m.Text, m.Blocks[0].Text.Text} {
		if !strings.Contains(text, "3 &lt;bad&gt; &amp; worse") {
			t.Errorf("%q", text)
		}
	}
	if !strings.Contains(m.Blocks[0].Text.Text, "<https://ops.example.com/shop/r1|read on>") || !strings.Contains(m.Blocks[1].Elements[0].Text, "v1 → v2") {
		t.Errorf("%s", body)
	}
}

// What an answer means for another attempt.
func TestAnswers(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, c := range []struct {
		status    int
		after     string
		ok, final bool
		wait      time.Duration
	}{
		{200, "", true, false, 0}, {204, "5", true, false, 0},
		{301, "", false, true, 0}, {302, "", false, true, 0}, {400, "", false, true, 0}, {401, "9", false, true, 0}, {404, "", false, true, 0}, {410, "", false, true, 0},
		{408, "", false, false, 0}, {429, "30", false, false, 30 * time.Second}, {500, "", false, false, 0}, {502, "x", false, false, 0},
		{503, "-1", false, false, 0}, {503, now.Add(time.Minute).UTC().Format(http.TimeFormat), false, false, time.Minute},
		{503, now.Add(-time.Minute).UTC().Format(http.TimeFormat), false, false, 0}, {503, "999999999", false, false, time.Hour},
	} {
		if a := judge(c.status, c.after, now); a.OK != c.ok || a.Final != c.final || a.After != c.wait {
			t.Errorf("%d %q: %+v", c.status, c.after, a)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	reached := false
	other, _ := receive(t, func(http.ResponseWriter, *http.Request) { reached = true })
	s, _ := receive(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	a := New("x", nil).Send(t.Context(), Target{URL: s.URL}, rolledBack)
	if a.OK || !a.Final || reached || !strings.Contains(a.Text, "redirect") {
		t.Errorf("%+v, reached %v", a, reached)
	}
}

func TestTLSIsVerified(t *testing.T) {
	s := httptest.NewUnstartedServer(status(200))
	s.Config.ErrorLog = nil
	s.StartTLS()
	defer s.Close()
	if a := New("x", nil).Send(t.Context(), Target{URL: s.URL}, rolledBack); a.OK || a.Final || !strings.Contains(a.Text, "certificate") {
		t.Errorf("%+v", a)
	}
}

// Whatever happens, what is secret in an address is in no answer: not when
// the receiver repeats it, not when it cannot be reached.
func TestAnswersHideSecrets(t *testing.T) {
	s, _ := receive(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(500)
		fmt.Fprintf(w, "cannot POST %s (%s)", r.URL, r.Header.Get(SignatureHeader))
	})
	gone := httptest.NewServer(status(200))
	gone.Close()
	for _, base := range []string{s.URL, gone.URL, "https://no-such-host.invalid", "ftp://x", "http://[::1", "http://user:pass%zz@x"} {
		for _, path := range []string{"/hook/t0pSecretPath", "/x?token=t0pSecretPath", "/t0pSecretPath/y?z=1"} {
			a := New("x", nil).Send(t.Context(), Target{URL: base + path, Secret: "t0pSecretKey"}, rolledBack)
			if a.OK || a.Text == "" || strings.Contains(a.Text, "t0pSecret") {
				t.Errorf("%s%s: %+v", base, path, a)
			}
		}
	}
}

// A receiver that sends without end is left after a little.
func TestAnswersAreBounded(t *testing.T) {
	s, _ := receive(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(500)
		for r.Context().Err() == nil {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<16)); err != nil {
				return
			}
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if a := New("x", nil).Send(ctx, Target{URL: s.URL}, rolledBack); a.OK || a.Final || len(a.Text) > 400 {
		t.Errorf("%+v", a)
	}
}

func TestWait(t *testing.T) {
	for tries := 1; tries < 100; tries++ {
		long, short := Wait(tries, 0, 0), Wait(tries, 0.999999, 0)
		if long > mostWait || short < long/2-time.Millisecond || short > long || tries > 1 && long < Wait(tries-1, 0, 0) {
			t.Errorf("try %d: %s to %s", tries, short, long)
		}
	}
	if Wait(1, 0, 0) != firstWait || Wait(3, 0, 0) != 4*firstWait || Wait(1, .5, 20*time.Minute) != 20*time.Minute || Wait(1, 0, 48*time.Hour) != mostAfter {
		t.Error("the first waits, or those that the receiver asks for, are others")
	}
}

// A flood of messages becomes a burst and then summaries; none is lost, and
// the target gets no more than its pace.
func TestFloodIsFolded(t *testing.T) {
	now := time.Unix(1e9, 0)
	var pace Pace
	var waiting []Message
	told, sent := 0, 0
	counts := func(m Message) int {
		if m.More != nil {
			return m.More.Count
		}
		return 1
	}
	const all = 1000
	for i := 0; i < all || len(waiting) > 0; i++ {
		if i < all {
			waiting = append(waiting, Message{Key: fmt.Sprint(i), Event: gapless.NotifyStarted, App: "shop", Text: "x"})
		}
		for again := true; again; {
			send, fold, wait := pace.Next(len(waiting), now)
			again = send || fold
			switch {
			case send:
				told, sent, pace = told+counts(waiting[0]), sent+1, pace.Take(now)
				waiting = waiting[1:]
			case fold:
				waiting = []Message{Fold(waiting)}
			case len(waiting) > 0 && wait <= 0:
				t.Fatal("waits for nothing")
			}
		}
		now = now.Add(100 * time.Millisecond)
		if i > 100*all {
			t.Fatal("never ends")
		}
	}
	if told != all {
		t.Errorf("told of %d, want %d", told, all)
	}
	if most := Burst + int(all*100*time.Millisecond/Every) + 2; sent > most || sent < Burst {
		t.Errorf("sent %d messages, want at most %d", sent, most)
	}
}

func TestFold(t *testing.T) {
	a := Message{Key: "a", Event: gapless.NotifyRolledBack, App: "shop", Text: "first"}
	b := Message{Key: "b", Event: gapless.NotifyStarted, App: "shop", Text: "second"}
	c := Message{Key: "c", Event: gapless.NotifyRolledBack, App: "shop", Text: "third"}
	m := Fold([]Message{Fold([]Message{a, b}), c})
	if m.Event != EventMore || m.More.Count != 3 || m.More.Events[gapless.NotifyRolledBack] != 2 || strings.Join(m.More.Keys, "") != "abc" ||
		!strings.Contains(m.Text, "3 more messages") || !strings.Contains(m.Text, "2 rolled back") || !strings.Contains(m.Text, "third") {
		t.Errorf("%+v %+v", m, m.More)
	}
	if again := Fold([]Message{Fold([]Message{a, b}), c}); again.Key != m.Key {
		t.Errorf("the key of the same is %q and %q", m.Key, again.Key)
	}
}
