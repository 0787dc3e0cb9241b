package edge

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"gapless"
)

// CertificateFile is where the certificate of a name lies that comes by ACME:
// one PEM file with the chain and the key, so that both change at once.
func CertificateFile(dir, name string) string { return filepath.Join(dir, name+".pem") }

// ReadPair reads a certificate chain and its key from PEM files, which may be
// one. It is Invalid if they cannot be read or do not belong together.
func ReadPair(cert, key string) (*tls.Certificate, error) {
	chain, err := os.ReadFile(cert)
	if err != nil {
		return nil, gapless.Errorf(gapless.Invalid, "read certificate: %w", err).WithHint("%s", readHint(err))
	}
	secret := chain
	if key != cert {
		if secret, err = os.ReadFile(key); err != nil {
			return nil, gapless.Errorf(gapless.Invalid, "read key: %w", err).WithHint("%s", readHint(err))
		}
	}
	pair, err := tls.X509KeyPair(chain, secret)
	if err != nil {
		return nil, gapless.Errorf(gapless.Invalid, "use certificate %s with key %s: %s", cert, key, strings.TrimPrefix(err.Error(), "tls: ")).
			WithHint("both are PEM; the certificate's file has the leaf first, then what signed it; the key is the leaf's and not encrypted")
	}
	return &pair, nil
}

func readHint(err error) string {
	if errors.Is(err, fs.ErrPermission) {
		return "gapless must be able to read it: chown it to the user that gapless runs as"
	}
	return "check the path"
}

// KeyExposed is Invalid if others than its owner and its group can read a
// key, or others than its owner can write it.
func KeyExposed(key string) error {
	info, err := os.Stat(key)
	if err != nil {
		return gapless.Errorf(gapless.Invalid, "read key: %w", err).WithHint("%s", readHint(err))
	}
	if mode := info.Mode().Perm(); mode&0o026 != 0 {
		return gapless.Errorf(gapless.Invalid, "key %s has mode %04o: others on this machine can use it", key, mode).WithHint("chmod 600 %s", key)
	}
	return nil
}

type pairFiles struct{ cert, key string }

// pair is a certificate with its key as the files have it. The one before
// stays in use until there is another one.
type pair struct {
	files   pairFiles
	auto    bool // comes by ACME: it may not be there yet
	present atomic.Pointer[tls.Certificate]
	seen    [2]stamp
	broken  int    // looks in a row that found them unusable
	told    string // the trouble that was logged
}

// stamp tells one state of a file from another one.
type stamp struct {
	at   time.Time
	size int64
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size()}
}

// refresh reads the files if they have changed. Between the two of a renewal
// they do not fit together; that is looked at again, and logged if it stays so.
func (p *pair) refresh(log *slog.Logger) {
	now := [2]stamp{stampOf(p.files.cert), stampOf(p.files.key)}
	if now == p.seen && p.broken == 0 || p.auto && now[0] == (stamp{}) {
		return
	}
	if now != p.seen {
		p.seen, p.broken = now, 0
	}
	pair, err := ReadPair(p.files.cert, p.files.key)
	if err != nil {
		p.broken++
		serving, due := "the one before", p.broken > 1
		if p.present.Load() == nil {
			serving, due = "one that nobody trusts", true
		}
		if trouble := err.Error(); due && p.told != trouble {
			p.told = trouble
			log.Error("the certificate cannot be used", "error", err, "hint", hintOf(err), "serving", serving)
		}
		return
	}
	p.broken, p.told = 0, ""
	was := p.present.Swap(pair)
	if err := KeyExposed(p.files.key); err != nil {
		log.Warn("the key is not safe", "error", err, "hint", hintOf(err))
	}
	if was != nil {
		log.Info("another certificate is served", "file", p.files.cert, "serial", pair.Leaf.SerialNumber.Text(16), "until", pair.Leaf.NotAfter)
	}
}

func hintOf(err error) string {
	var g *gapless.Error
	if errors.As(err, &g) {
		return g.Hint
	}
	return ""
}

// certs finds the certificate for the name that a client asks for.
type certs struct {
	named map[string]*pair
	wild  map[string]*pair // by what stands behind "*."
	any   *pair            // for every other name; nil: there is none
	first *pair            // for who asks for none
}

func (c *certs) add(p *pair, names []string) {
	if len(names) == 0 && c.any == nil {
		c.any = p
	}
	for _, n := range names {
		n = string(hostName(nil, []byte(n)))
		list := c.named
		if rest, ok := strings.CutPrefix(n, "*."); ok {
			list, n = c.wild, rest
		}
		if list[n] == nil {
			list[n] = p
		}
	}
	c.first = cmp.Or(c.first, p)
}

func (c *certs) find(name string) *pair {
	if c == nil {
		return nil
	}
	if name == "" {
		return cmp.Or(c.any, c.first)
	}
	name = string(hostName(nil, []byte(name)))
	if p := c.named[name]; p != nil {
		return p
	}
	for rest := name; len(c.wild) > 0; {
		var more bool
		if _, rest, more = strings.Cut(rest, "."); !more {
			break
		}
		if p := c.wild[rest]; p != nil {
			return p
		}
	}
	return c.any
}

// certificate is the one for a client that says hello. There is none for a
// name that no app has: the client is told so.
func (t *terminator) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	w, ok := hello.Conn.(*wire)
	if !ok {
		return nil, errors.New("not a connection of a listener")
	}
	h := t.state.Load().listeners[w.listener]
	if h == nil {
		return nil, nil
	}
	p := h.certs.find(hello.ServerName)
	if p == nil {
		return nil, nil
	}
	if c := p.present.Load(); c != nil {
		return c, nil
	}
	return t.own(), nil
}

// furnish gives the addresses of a new state their certificates.
func (t *terminator) furnish(st *state) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	used := map[pairFiles]*pair{}
	routes := slices.Clone(st.table.Routes)
	slices.SortFunc(routes, func(a, b gapless.Route) int { return cmp.Compare(a.App, b.App) }) // whoever was deployed last changes nothing
	for _, spec := range routes {
		if spec.TLS == nil {
			continue
		}
		for _, g := range t.pairsOf(spec.TLS) {
			p := t.pairs[g.files]
			if p == nil {
				p = &pair{files: g.files, auto: spec.TLS.Auto}
				t.pairs[g.files] = p
				p.refresh(t.log)
			}
			used[g.files] = p
			for _, addr := range spec.TLS.Listen {
				if h := st.listeners[addr]; h != nil {
					if h.certs == nil {
						h.certs = &certs{named: map[string]*pair{}, wild: map[string]*pair{}}
					}
					h.certs.add(p, g.names)
				}
			}
		}
		for _, addr := range spec.Listen {
			if h := st.listeners[addr]; h != nil && spec.TLS.Auto && !spec.TLS.Secures(addr) {
				h.acme = h.acme.with(t.acme, spec.TLS.Names)
			}
		}
	}
	t.pairs = used
	t.refresh()
}

type namedPair struct {
	files pairFiles
	names []string
}

// pairsOf are the files of an app's certificates.
func (t *terminator) pairsOf(spec *gapless.TLS) (out []namedPair) {
	if !spec.Auto {
		return []namedPair{{pairFiles{spec.Cert, spec.Key}, spec.Names}}
	}
	for _, name := range spec.Names {
		file := CertificateFile(t.files.Certificates, name)
		out = append(out, namedPair{pairFiles{file, file}, []string{name}})
	}
	return out
}

// standIn is a certificate that nobody trusts, for the time until there is one.
func standIn() *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil
	}
	now := time.Now()
	spec := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: StandInName},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, spec, spec, &key.PublicKey, key)
	if err != nil {
		return nil
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// StandInName is whom the certificate is for that is shown until there is a
// real one.
const StandInName = "gapless: no certificate yet"
