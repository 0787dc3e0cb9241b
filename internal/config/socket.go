package config

import (
	"github.com/goccy/go-yaml/ast"

	"gapless"
)

// socketFD is what socket: says of one that is handed over.
const socketFD = "fd"

// socket reads where instances listen: true, false or fd.
func (r *reader) socket(a *gapless.App) setter {
	return func(n ast.Node) {
		if b, ok := n.(*ast.BoolNode); ok {
			a.Socket = b.Value
			return
		}
		switch s, ok := r.scalar(n, "socket"); {
		case !ok:
		case s == socketFD:
			a.Socket, a.SocketFD = true, true
		default:
			r.fail(n, faultf("socket is %s, but must be true (the path is in PORT), fd (handed over as descriptor 3) or false", quote(s)))
		}
	}
}

func explainSocket(a *gapless.App) any {
	if a.SocketFD {
		return socketFD
	}
	return a.Socket
}
