package measure

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"gapless"
)

// cloudWatch asks Amazon CloudWatch by its SDK, which speaks CBOR and signs.
type cloudWatch struct {
	api    *cloudwatch.Client
	role   aws.CredentialsProvider // of the machine; nil: the app has keys of its own
	region string
	with   map[string]string
	period time.Duration
	window time.Duration
}

// Names of the variables that credentials are in, as everywhere with AWS.
const (
	awsKey     = "AWS_ACCESS_KEY_ID"
	awsSecret  = "AWS_SECRET_ACCESS_KEY"
	awsSession = "AWS_SESSION_TOKEN"
)

func newCloudWatch(q gapless.CloudWatchQuery, env map[string]string) (*cloudWatch, error) {
	c := &cloudWatch{region: q.Region, with: q.With, period: q.Period.Std(), window: q.Window.Std()}
	options := cloudwatch.Options{Region: q.Region, RetryMaxAttempts: 2, HTTPClient: bounded{client}}
	if env[awsKey] != "" || env[awsSecret] != "" {
		key, err := variable(env, "key of AWS", awsKey)
		if err != nil {
			return nil, err
		}
		secret, err := variable(env, "secret key of AWS", awsSecret)
		if err != nil {
			return nil, err
		}
		options.Credentials = credentials.NewStaticCredentialsProvider(key, secret, env[awsSession])
	} else {
		c.role = aws.NewCredentialsCache(ec2rolecreds.New())
		options.Credentials = c.role
	}
	if q.URL != "" {
		options.BaseEndpoint = aws.String(q.URL)
	}
	c.api = cloudwatch.New(options)
	return c, nil
}

// bounded is an HTTP client whose answers end at maxAnswer.
type bounded struct{ client *http.Client }

func (b bounded) Do(req *http.Request) (*http.Response, error) {
	res, err := b.client.Do(req)
	if err == nil {
		res.Body = http.MaxBytesReader(nil, res.Body, maxAnswer)
	}
	return res, err
}

// Ping implements Source.
func (c *cloudWatch) Ping(ctx context.Context) error {
	bare := *c
	bare.with = nil
	_, _, err := bare.Query(ctx, "TIME_SERIES(1)", time.Now(), 0)
	return err
}

// roleTimeout bounds the wait for credentials of a role: where the machine has
// none, nobody answers.
const roleTimeout = 3 * time.Second

// authorized makes sure that there are credentials.
func (c *cloudWatch) authorized(ctx context.Context) error {
	if c.role == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, roleTimeout)
	defer cancel()
	if _, err := c.role.Retrieve(ctx); err != nil {
		return gapless.Errorf(gapless.Conflict, "there are no credentials for CloudWatch in %s: neither the app has variables for them, nor this machine a role", c.region).
			WithHint("set them with: gapless secrets set %s, and %s, then deploy", awsKey, awsSecret)
	}
	return nil
}

// mainID is the ID of the query whose value is meant.
const mainID = "gapless"

// part is one query of a request. Metrics Insights needs to be told the
// period; other expressions bring it along.
func (c *cloudWatch) part(id, expression string, wanted bool) types.MetricDataQuery {
	q := types.MetricDataQuery{Id: aws.String(id), Expression: aws.String(expression), ReturnData: aws.Bool(wanted)}
	if text := strings.TrimSpace(expression); len(text) >= 6 && strings.EqualFold(text[:6], "select") {
		q.Period = aws.Int32(int32(c.period / time.Second))
	}
	return q
}

// mostPages is how many parts an answer may have without any value in them.
const mostPages = 5

// Query implements Source. A value is of one period; the one that is not over
// yet is left out, and a sample is of the end of its period.
func (c *cloudWatch) Query(ctx context.Context, query string, now time.Time, _ time.Duration) (Sample, bool, error) {
	if err := c.authorized(ctx); err != nil {
		return Sample{}, false, err
	}
	end := now.Truncate(c.period)
	in := &cloudwatch.GetMetricDataInput{
		StartTime:         aws.Time(end.Add(-max(c.window, 2*c.period))),
		EndTime:           aws.Time(end),
		ScanBy:            types.ScanByTimestampDescending,
		MetricDataQueries: []types.MetricDataQuery{c.part(mainID, query, true)},
	}
	for _, id := range slices.Sorted(maps.Keys(c.with)) {
		in.MetricDataQueries = append(in.MetricDataQueries, c.part(id, c.with[id], false))
	}
	for range mostPages {
		out, err := c.api.GetMetricData(ctx, in)
		if err != nil {
			return Sample{}, false, c.refused(ctx, err)
		}
		s, ok, err := c.newest(out, now)
		if ok || err != nil || out.NextToken == nil || *out.NextToken == "" {
			return s, ok, err
		}
		in.NextToken = out.NextToken
	}
	return Sample{}, false, gapless.Errorf(gapless.TooLarge, "CloudWatch answers in more than %d parts and none has a value", mostPages).
		WithHint("aggregate in the query, so that one value is left: SELECT SUM(…)")
}

// newest is the last value of a period that is over.
func (c *cloudWatch) newest(out *cloudwatch.GetMetricDataOutput, now time.Time) (Sample, bool, error) {
	var results []types.MetricDataResult
	for _, r := range out.MetricDataResults {
		if aws.ToString(r.Id) == mainID {
			results = append(results, r)
		}
	}
	switch {
	case len(results) == 0:
		return Sample{}, false, nil
	case len(results) > 1:
		return Sample{}, false, tooMany(len(results), "leave out GROUP BY, or write SUM(METRICS())")
	}
	r := results[0]
	switch r.StatusCode {
	case types.StatusCodeComplete, types.StatusCodePartialData:
	default:
		text := string(r.StatusCode)
		if all := append(slices.Clone(r.Messages), out.Messages...); len(all) > 0 {
			text += ": " + cut(aws.ToString(all[0].Value), 200)
		}
		return Sample{}, false, gapless.Errorf(gapless.Unavailable, "CloudWatch in %s answers %s", c.region, text).WithHint("try the query in CloudWatch itself")
	}
	if len(r.Timestamps) != len(r.Values) {
		return Sample{}, false, gapless.Errorf(gapless.Unavailable, "CloudWatch in %s answers %d times and %d values", c.region, len(r.Timestamps), len(r.Values))
	}
	var s Sample
	found := false
	for i, at := range r.Timestamps {
		if end := at.Add(c.period).UTC(); !end.After(now) && (!found || end.After(s.At)) {
			s, found = Sample{Value: r.Values[i], At: end}, true
		}
	}
	return s, found, nil
}

// refused says what went wrong, without the request's headers.
func (c *cloudWatch) refused(ctx context.Context, err error) error {
	where := "CloudWatch in " + c.region
	if ctx.Err() != nil || errors.Is(err, context.DeadlineExceeded) {
		return gapless.Errorf(gapless.TimedOut, "%s did not answer in time", where).WithHint("at most %s are waited for", gapless.Duration(Timeout))
	}
	var known smithy.APIError
	if errors.As(err, &known) {
		e := gapless.Errorf(gapless.Unavailable, "%s answers %s: %s", where, cut(known.ErrorCode(), 60), cut(known.ErrorMessage(), 200))
		switch known.ErrorCode() {
		case "AccessDenied", "AccessDeniedException", "UnrecognizedClientException", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException", "MissingAuthenticationToken":
			return e.WithHint("may the key in %s call cloudwatch:GetMetricData in %s?", awsKey, c.region)
		case "Throttling", "ThrottlingException":
			return e.WithHint("ask less often: interval: 2m")
		}
		return e.WithHint("try the query in CloudWatch itself")
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return gapless.Errorf(gapless.TooLarge, "%s: %w", where, errTooLarge).WithHint("aggregate in the query, so that one value is left: SELECT SUM(…)")
	}
	var status *smithyhttp.ResponseError
	if errors.As(err, &status) {
		return gapless.Errorf(gapless.Unavailable, "%s answers %d in a way that is not understood", where, status.HTTPStatusCode()).
			WithHint("is the address that of CloudWatch?")
	}
	return gapless.Errorf(gapless.Unavailable, "%s cannot be reached: %s", where, cut(err.Error(), 200)).WithHint("is the region right, and can this machine reach it?")
}
