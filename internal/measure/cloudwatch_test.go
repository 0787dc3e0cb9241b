package measure

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/encoding/cbor"

	"gapless"
)

// fakeCloudWatch is the operation GetMetricData as AWS's public API reference
// and Smithy's RPC v2 CBOR protocol describe them, strict about everything that
// it reads: path, headers, signature and fields. It was written from that
// description and never compared with the vendor.
type fakeCloudWatch struct {
	t       *testing.T
	results func(queries []string) []cbor.Value // MetricDataResults, by the expressions that were sent
	pages   int                                 // so many answers come before it, empty
	asked   [][]string
}

const (
	cwRegion, cwKey, cwSecret = "eu-central-1", "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG"
	cwPath                    = "/service/GraniteServiceVersion20100801/operation/GetMetricData"
)

func (f *fakeCloudWatch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	say := func(status int, v cbor.Value) {
		w.Header().Set("Content-Type", "application/cbor")
		w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
		w.WriteHeader(status)
		if _, err := w.Write(cbor.Encode(v)); err != nil {
			f.t.Error(err)
		}
	}
	refuse := func(status int, kind, text string, args ...any) {
		say(status, cbor.Map{"__type": cbor.String("com.amazonaws.cloudwatch#" + kind), "message": cbor.String(fmt.Sprintf(text, args...))})
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	if r.Method != "POST" || r.URL.Path != cwPath || r.URL.RawQuery != "" ||
		r.Header.Get("Smithy-Protocol") != "rpc-v2-cbor" || r.Header.Get("Content-Type") != "application/cbor" || r.Header.Get("Accept") != "application/cbor" {
		w.WriteHeader(404)
		return
	}
	if want := signature(f.t, r, body); r.Header.Get("Authorization") != want {
		refuse(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
		return
	}
	v, err := cbor.Decode(body)
	in, ok := v.(cbor.Map)
	if err != nil || !ok {
		refuse(400, "SerializationException", "no map")
		return
	}
	if name := stranger(in, "StartTime", "EndTime", "ScanBy", "MetricDataQueries", "NextToken"); name != "" {
		refuse(400, "SerializationException", "unknown field %s", name)
		return
	}
	start, end := instant(f.t, in["StartTime"]), instant(f.t, in["EndTime"])
	if !start.Before(end) || end.Unix()%60 != 0 || in["ScanBy"] != cbor.String("TimestampDescending") {
		refuse(400, "InvalidParameterValueException", "from %s to %s by %v", start, end, in["ScanBy"])
		return
	}
	queries, _ := in["MetricDataQueries"].(cbor.List)
	var expressions []string
	wanted := 0
	for _, q := range queries {
		m, _ := q.(cbor.Map)
		id, _ := m["Id"].(cbor.String)
		expression, _ := m["Expression"].(cbor.String)
		insights := strings.HasPrefix(string(expression), "SELECT ")
		_, period := m["Period"]
		returned, _ := m["ReturnData"].(cbor.Bool)
		if returned {
			wanted++
		}
		if name := stranger(m, "Id", "Expression", "Period", "ReturnData"); name != "" || !regexp.MustCompile(`^[a-z][A-Za-z0-9_]*$`).MatchString(string(id)) || expression == "" || insights != period {
			refuse(400, "ValidationError", "the value for parameter MetricDataQueries is not valid: %v", m)
			return
		}
		expressions = append(expressions, fmt.Sprintf("%s=%s", id, expression))
	}
	if wanted != 1 {
		refuse(400, "ValidationError", "%d queries return data", wanted)
		return
	}
	f.asked = append(f.asked, expressions)
	if len(f.asked) <= f.pages {
		if token, asked := in["NextToken"]; asked != (len(f.asked) > 1) || asked && token != cbor.String(fmt.Sprint("page-", len(f.asked)-1)) {
			f.t.Errorf("page %d is asked for with %v", len(f.asked), token)
		}
		say(200, cbor.Map{"MetricDataResults": cbor.List{}, "Messages": cbor.List{}, "NextToken": cbor.String(fmt.Sprint("page-", len(f.asked)))})
		return
	}
	if strings.Contains(expressions[0], "syntax error") {
		refuse(400, "ValidationError", "Error in expression 'gapless'")
		return
	}
	say(200, cbor.Map{"MetricDataResults": cbor.List(f.results(expressions)), "Messages": cbor.List{}})
}

// stranger is a field that is not one of the known ones, "" if there is none.
func stranger(m cbor.Map, known ...string) string {
	for name := range m {
		if !slices.Contains(known, name) {
			return name
		}
	}
	return ""
}

// instant reads a time: tag 1, seconds since 1970.
func instant(t *testing.T, v cbor.Value) time.Time {
	tag, ok := v.(*cbor.Tag)
	if !ok || tag.ID != 1 {
		t.Errorf("%v is no time", v)
		return time.Time{}
	}
	switch s := tag.Value.(type) {
	case cbor.Uint:
		return time.Unix(int64(s), 0)
	case cbor.Float64:
		return time.UnixMilli(int64(s * 1000))
	}
	t.Errorf("%v is no time", v)
	return time.Time{}
}

// signature is what the Authorization of a request must be, by the key that
// both sides know.
func signature(t *testing.T, r *http.Request, body []byte) string {
	t.Helper()
	signed := regexp.MustCompile(`SignedHeaders=([^,]*),`).FindStringSubmatch(r.Header.Get("Authorization"))
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if signed == nil || err != nil || time.Since(at).Abs() > 5*time.Minute {
		return "one that is signed, now"
	}
	again, err := http.NewRequest(r.Method, "http://"+r.Host+r.URL.Path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Split(signed[1], ";") {
		if values := r.Header.Values(name); len(values) > 0 {
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	for _, name := range []string{"host", "x-amz-date"} {
		if !slices.Contains(strings.Split(signed[1], ";"), name) {
			return "one over " + name
		}
	}
	sum := sha256.Sum256(body)
	creds := aws.Credentials{AccessKeyID: cwKey, SecretAccessKey: cwSecret, SessionToken: r.Header.Get("X-Amz-Security-Token")}
	if err := v4.NewSigner().SignHTTP(t.Context(), creds, again, hex.EncodeToString(sum[:]), "monitoring", cwRegion, at); err != nil {
		t.Fatal(err)
	}
	return again.Header.Get("Authorization")
}

// result is one MetricDataResult: values by how many minutes before now their
// period began.
func result(id, status string, values map[int]float64) cbor.Value {
	var at, list cbor.List
	for _, minutes := range []int{0, 1, 2, 3, 10} {
		if v, ok := values[minutes]; ok {
			at = append(at, &cbor.Tag{ID: 1, Value: cbor.Float64(now.Add(-time.Duration(minutes)*time.Minute - 5*time.Second).Unix())})
			list = append(list, cbor.Float64(v))
		}
	}
	return cbor.Map{"Id": cbor.String(id), "Label": cbor.String("label"), "StatusCode": cbor.String(status), "Timestamps": at, "Values": list}
}

func cloudWatchMetric(url string) gapless.Metric {
	return gapless.Metric{Name: "m", Stale: gapless.Duration(5 * time.Minute), CloudWatch: &gapless.CloudWatchQuery{Region: cwRegion, URL: url,
		Query: "SELECT SUM(Errors) FROM Shop WHERE Release = '{{release}}'", Period: gapless.Duration(time.Minute), Window: gapless.Duration(10 * time.Minute)}}
}

var cwEnv = map[string]string{"AWS_ACCESS_KEY_ID": cwKey, "AWS_SECRET_ACCESS_KEY": cwSecret}

func TestCloudWatchAnswers(t *testing.T) {
	one := func(status string, values map[int]float64) func([]string) []cbor.Value {
		return func([]string) []cbor.Value { return []cbor.Value{result(mainID, status, values)} }
	}
	for _, c := range []struct {
		name   string
		fake   fakeCloudWatch
		env    map[string]string
		change func(*gapless.CloudWatchQuery)
		serves http.HandlerFunc
		want   gapless.ReadingKind
		value  float64
		says   string
	}{
		{name: "the newest period that is over", fake: fakeCloudWatch{results: one("Complete", map[int]float64{0: 1, 1: 7, 2: 9})}, want: gapless.ReadValue, value: 7},
		{name: "a part of the data", fake: fakeCloudWatch{results: one("PartialData", map[int]float64{2: 4})}, want: gapless.ReadValue, value: 4},
		{name: "zero", fake: fakeCloudWatch{results: one("Complete", map[int]float64{1: 0})}, want: gapless.ReadValue},
		{name: "no values", fake: fakeCloudWatch{results: one("Complete", nil)}, want: gapless.ReadEmpty},
		{name: "no result", fake: fakeCloudWatch{results: func([]string) []cbor.Value { return nil }}, want: gapless.ReadEmpty},
		{name: "only the period that still fills", fake: fakeCloudWatch{results: one("Complete", map[int]float64{0: 3})}, want: gapless.ReadEmpty},
		{name: "an old value", fake: fakeCloudWatch{results: one("Complete", map[int]float64{10: 3})}, want: gapless.ReadStale, value: 3, says: "old"},
		{name: "0/0", fake: fakeCloudWatch{results: one("Complete", map[int]float64{1: math.NaN()})}, want: gapless.ReadNaN},
		{name: "the second page", fake: fakeCloudWatch{pages: 2, results: one("Complete", map[int]float64{1: 5})}, want: gapless.ReadValue, value: 5},
		{name: "pages without end", fake: fakeCloudWatch{pages: 99}, want: gapless.ReadError, says: "more than 5 parts"},
		{name: "several series", fake: fakeCloudWatch{results: func([]string) []cbor.Value {
			return []cbor.Value{result(mainID, "Complete", map[int]float64{1: 1}), result(mainID, "Complete", map[int]float64{1: 2})}
		}}, want: gapless.ReadError, says: "2 series"},
		{name: "a fault inside", fake: fakeCloudWatch{results: one("InternalError", nil)}, want: gapless.ReadError, says: "InternalError"},
		{name: "a session of a role", env: map[string]string{"AWS_ACCESS_KEY_ID": cwKey, "AWS_SECRET_ACCESS_KEY": cwSecret, "AWS_SESSION_TOKEN": "session"},
			fake: fakeCloudWatch{results: one("Complete", map[int]float64{1: 7})}, want: gapless.ReadValue, value: 7},
		{name: "metric math", change: func(q *gapless.CloudWatchQuery) {
			q.Query, q.With = "100 * e / r", map[string]string{"r": "SELECT SUM(Requests) FROM Shop WHERE Release = '{{release}}'", "e": "SELECT SUM(Errors) FROM Shop WHERE Release = '{{release}}'"}
		}, fake: fakeCloudWatch{results: func(q []string) []cbor.Value {
			if fmt.Sprint(q) != "[gapless=100 * e / r e=SELECT SUM(Errors) FROM Shop WHERE Release = 'v2' r=SELECT SUM(Requests) FROM Shop WHERE Release = 'v2']" {
				return nil
			}
			return []cbor.Value{result(mainID, "Complete", map[int]float64{1: 12.5})}
		}}, want: gapless.ReadValue, value: 12.5},
		{name: "a query that is wrong", change: func(q *gapless.CloudWatchQuery) { q.Query = "syntax error" }, want: gapless.ReadError, says: "ValidationError: Error in expression"},
		{name: "a short query with blanks", change: func(q *gapless.CloudWatchQuery) { q.Query = "m1    " }, fake: fakeCloudWatch{results: one("Complete", map[int]float64{1: 7})}, want: gapless.ReadValue, value: 7},
		{name: "a wrong key", env: map[string]string{"AWS_ACCESS_KEY_ID": cwKey, "AWS_SECRET_ACCESS_KEY": "other-key"}, want: gapless.ReadError, says: "SignatureDoesNotMatch"},
		{name: "half a key", env: map[string]string{"AWS_ACCESS_KEY_ID": cwKey}, want: gapless.ReadError, says: "variable AWS_SECRET_ACCESS_KEY"},
		{name: "a page", serves: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>hello") }, want: gapless.ReadError, says: "CloudWatch in eu-central-1"},
		{name: "an answer that is huge", serves: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
			part := bytes.Repeat([]byte{0x40}, 64<<10)
			for range 100 {
				if _, err := w.Write(part); err != nil {
					return
				}
			}
		}, want: gapless.ReadError, says: "larger than 1 MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.fake.t = t
			var h http.Handler = &c.fake
			if c.serves != nil {
				h = c.serves
			}
			srv := httptest.NewServer(h)
			defer srv.Close()
			m := cloudWatchMetric(srv.URL)
			if c.change != nil {
				c.change(m.CloudWatch)
			}
			env := cwEnv
			if c.env != nil {
				env = c.env
			}
			r := Read(t.Context(), m, env, gapless.QueryNames{Release: "v2"}, now)
			if r.Kind != c.want || r.Value != c.value || !strings.Contains(r.Why, c.says) {
				t.Errorf("%+v, want %s %v (%s)", r, c.want, c.value, c.says)
			}
			if strings.Contains(r.Why+r.Hint, "other-key") || strings.Contains(r.Why, cwSecret) {
				t.Errorf("a key is shown: %+v", r)
			}
		})
	}
}

func TestCloudWatchPing(t *testing.T) {
	fake := &fakeCloudWatch{t: t, results: func([]string) []cbor.Value { return nil }}
	srv := httptest.NewServer(fake)
	defer srv.Close()
	c, err := newCloudWatch(*cloudWatchMetric(srv.URL).CloudWatch, cwEnv)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Ping(t.Context()); err != nil || len(fake.asked) != 1 {
		t.Errorf("%v, asked %v", err, fake.asked)
	}
	srv.Close()
	if c.Ping(t.Context()) == nil {
		t.Error("nobody answers a ping")
	}
}
