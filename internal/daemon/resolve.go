package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"time"

	"gapless"
)

// resolveLimit is how long a proxy looks up the names of its servers before it
// serves. What takes longer may still come.
const resolveLimit = 5 * time.Second

// lookup finds the addresses of a name.
type lookup func(ctx context.Context, name string) ([]string, error)

// resolve looks whether the names of the servers in a table lead anywhere. One
// that does not is warned of: it may come later, and the others serve. If none
// does nobody could be served, and that is Invalid.
func resolve(ctx context.Context, t gapless.Table, find lookup, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	failed := map[string]error{}
	asked := map[string]bool{}
	servers, gone := 0, []string{}
	for _, r := range t.Routes {
		for _, x := range r.Targets {
			servers++
			name := hostOf(x.Address)
			if name != "" && !asked[name] {
				asked[name] = true
				if _, err := find(ctx, name); err != nil {
					failed[name] = err
				}
			}
			var dns *net.DNSError
			if errors.As(failed[name], &dns) && dns.IsNotFound {
				gone = append(gone, x.Address)
			}
		}
	}
	if servers > 0 && len(gone) == servers {
		return gapless.Errorf(gapless.Invalid, "no server has a name that resolves: %s", strings.Join(gone, ", ")).
			WithHint("getent hosts %s shows what this system finds; where there is no name write an IP address", hostOf(gone[0]))
	}
	for name, err := range failed {
		log.Warn("the name of a server does not resolve: the server is left alone until it does", "name", name, "error", err)
	}
	return nil
}

// hostOf is the name in an address of a server; "": there is none to look up.
func hostOf(address string) string {
	for _, protocol := range []string{gapless.ProtocolH2C, gapless.ProtocolHTTPS, gapless.ProtocolH2} {
		address = strings.TrimPrefix(address, protocol+":")
	}
	host, _, err := net.SplitHostPort(address)
	if _, ip := netip.ParseAddr(host); err != nil || ip == nil || strings.HasPrefix(address, "unix:") {
		return ""
	}
	return host
}
