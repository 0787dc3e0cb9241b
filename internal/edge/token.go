package edge

import (
	"encoding/base64"
	"encoding/binary"
	"math"
)

// token is what a session's cookie says: version, flags, when the release was
// given, by which coin, the session, the candidate's share then, and the
// release. Signed with the app's key, in base64url.
type token struct {
	issued  int64 // seconds since 1970
	coin    uint32
	id      uint64
	weight  float64 // 0: no coin was tossed
	bad     bool    // the session had a bad answer
	release string
}

const (
	tokenVersion = 1
	tokenFixed   = 26 // bytes before the release
	maxRelease   = 48
	macSize      = 32
	flagBad      = 1

	clockSlack = 300 // seconds that another machine's clock may be ahead
)

var base64url = base64.RawURLEncoding.Strict()

// appendToken appends the text of a signed token. The release is at most
// maxRelease bytes.
func appendToken(out []byte, t *token, key *macKey) []byte {
	var b [tokenFixed + maxRelease + macSize]byte
	b[0] = tokenVersion
	if t.bad {
		b[1] = flagBad
	}
	binary.BigEndian.PutUint32(b[2:], uint32(t.issued))
	binary.BigEndian.PutUint32(b[6:], t.coin)
	binary.BigEndian.PutUint64(b[10:], t.id)
	binary.BigEndian.PutUint64(b[18:], math.Float64bits(t.weight))
	n := tokenFixed + copy(b[tokenFixed:tokenFixed+maxRelease], t.release)
	mac := key.sign(b[:n])
	n += copy(b[n:], mac[:])
	return base64url.AppendEncode(out, b[:n])
}

// maxToken is the longest text of a token.
const maxToken = (tokenFixed+maxRelease+macSize)*4/3 + 4

// readToken reads what appendToken wrote with one of the keys, at most ttl
// seconds ago. The release is found among names, so that nothing is allocated
// and a token of a release that is not there is as good as none.
func readToken(text []byte, keys []macKey, now, ttl int64, shares []*share) (t token, to *share) {
	if len(text) > maxToken {
		return t, nil
	}
	var b [maxToken]byte
	n, err := base64url.Decode(b[:], text)
	if err != nil || n <= tokenFixed+macSize || n > tokenFixed+maxRelease+macSize {
		return t, nil
	}
	body, mac := b[:n-macSize], b[n-macSize:n]
	for i := range keys {
		if keys[i].signed(body, mac) {
			return parseToken(body, now, ttl, shares)
		}
	}
	return t, nil
}

func parseToken(b []byte, now, ttl int64, shares []*share) (t token, to *share) {
	t = token{
		issued: int64(binary.BigEndian.Uint32(b[2:])), coin: binary.BigEndian.Uint32(b[6:]), id: binary.BigEndian.Uint64(b[10:]),
		weight: math.Float64frombits(binary.BigEndian.Uint64(b[18:])), bad: b[1] == flagBad,
	}
	if b[0] != tokenVersion || b[1]&^flagBad != 0 || t.issued > now+clockSlack || now-t.issued >= ttl || !(t.weight >= 0 && t.weight <= 1) {
		return t, nil
	}
	for _, s := range shares {
		if string(b[tokenFixed:]) == s.release {
			t.release = s.release
			return t, s
		}
	}
	return t, nil
}
