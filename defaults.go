package gapless

import (
	"cmp"
	"time"
)

// What an edge does where an app says nothing. Fields that stay zero are no
// limit, or one that depends on the machine.
var (
	defaultLimits = Limits{
		BodyRate: 240, HeaderSize: MaxHeaderSize, Headers: MaxHeaders, Exempt: []string{ExemptLoopback}, Held: 1000, HeldSize: 64 << 20,
	}
	defaultTimeouts = Timeouts{
		Head: Duration(30 * time.Second), Idle: Duration(75 * time.Second), Body: Duration(time.Minute),
		Answer: Duration(5 * time.Minute), Write: Duration(2 * time.Minute),
	}
)

// DefaultRetries is Balance.Retries where an app says nothing.
const DefaultRetries = 0.2

// InForce is l with the edge's defaults for what it leaves open.
func (l Limits) InForce() Limits {
	l.BodyRate = cmp.Or(l.BodyRate, defaultLimits.BodyRate)
	l.HeaderSize = cmp.Or(l.HeaderSize, defaultLimits.HeaderSize)
	l.Headers = cmp.Or(l.Headers, defaultLimits.Headers)
	l.Held = cmp.Or(l.Held, defaultLimits.Held)
	l.HeldSize = cmp.Or(l.HeldSize, defaultLimits.HeldSize)
	if len(l.Exempt) == 0 {
		l.Exempt = defaultLimits.Exempt
	}
	return l
}

// InForce is t with the edge's defaults for what it leaves open.
func (t Timeouts) InForce() Timeouts {
	t.Head = cmp.Or(t.Head, defaultTimeouts.Head)
	t.Idle = cmp.Or(t.Idle, defaultTimeouts.Idle)
	t.Body = cmp.Or(t.Body, defaultTimeouts.Body)
	t.Answer = cmp.Or(t.Answer, defaultTimeouts.Answer)
	t.Write = cmp.Or(t.Write, defaultTimeouts.Write)
	return t
}

// InForce is b with the edge's defaults for what it leaves open.
func (b Balance) InForce() Balance {
	b.Retries = cmp.Or(b.Retries, DefaultRetries)
	return b
}
