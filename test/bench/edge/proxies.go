package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	root "gapless"
)

// backend is one nginx that is both releases, over TCP and unix sockets.
type backend struct{ tcp, unix [2]string }

// proxy is one process under measurement.
type proxy struct {
	name string
	addr string
	pid  int
	conf string // for people
	cmd  *exec.Cmd
	down func() error
}

func (b *bench) startBackend(ctx context.Context) (*backend, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	k := &backend{tcp: [2]string(ports)}
	files := filepath.Join(b.dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		return nil, err
	}
	for name, size := range map[string]int{"1m": 1 << 20, "64m": 64 << 20} {
		if err := os.WriteFile(filepath.Join(files, name), make([]byte, size), 0o644); err != nil {
			return nil, err
		}
	}
	var listen string
	for i := range 2 {
		k.unix[i] = filepath.Join(b.dir, fmt.Sprintf("b%d.sock", i))
		listen += fmt.Sprintf("listen %s backlog=4096; listen unix:%s backlog=4096; ", k.tcp[i], k.unix[i])
	}
	conf := "daemon off; master_process off; worker_processes 1; error_log stderr crit; pid " + b.dir + "/backend.pid;\n" +
		"events { worker_connections 8192; }\nhttp { access_log off; sendfile on; keepalive_requests 1000000000; keepalive_timeout 1h;\n" + tempPaths(b.dir) +
		"server { " + listen + "root " + files + "; location = / { return 200 '" + strings.Repeat("x", 1024) + "'; } }\n}\n"
	_, err = b.nginx(ctx, 1, "backend", conf, k.tcp[0])
	return k, err
}

func (b *bench) nginx(ctx context.Context, core int, name, conf, addr string) (*exec.Cmd, error) {
	file := filepath.Join(b.dir, name+".conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	cmd, err := b.child(core, nil, "nginx", "-p", b.dir, "-c", file)
	if err != nil {
		return nil, err
	}
	return cmd, await(ctx, addr)
}

// setup is how proxies are started for one row.
type setup struct {
	workers int
	tls     bool
	unix    bool // gapless only
	hosts   int  // gapless only: routes with a host and a path of their own
}

func (s setup) core() int {
	if s.workers > 1 {
		return -1
	}
	return 0
}

func (b *bench) startNginx(ctx context.Context, s setup) (*proxy, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	k := b.backend
	listen := "listen " + ports[0] + " backlog=4096"
	certs := ""
	if s.tls {
		cert, key, err := b.certificate()
		if err != nil {
			return nil, err
		}
		listen += " ssl"
		certs = fmt.Sprintf("ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.2 TLSv1.3; ", cert, key)
	}
	process := "master_process off; worker_processes 1;"
	if s.workers > 1 {
		process = fmt.Sprintf("worker_processes %d;", s.workers)
	}
	conf := "daemon off; user root; " + process + " error_log stderr crit; pid " + b.dir + "/nginx.pid; worker_rlimit_nofile 20000;\n" +
		"events { worker_connections 20000; }\nhttp { keepalive_requests 1000000000; keepalive_timeout 1h;\n" + tempPaths(b.dir) +
		"access_log " + b.dir + "/nginx-access.log combined buffer=64k flush=1s;\n" +
		"limit_conn_zone $binary_remote_addr zone=peers:10m;\n" +
		"split_clients $request_id $release { 10% v2; * v1; }\n" +
		"upstream v1 { server " + k.tcp[0] + "; keepalive 256; keepalive_requests 1000000000; }\n" +
		"upstream v2 { server " + k.tcp[1] + "; keepalive 256; keepalive_requests 1000000000; }\n" +
		"server { " + listen + "; " + certs + "limit_conn peers 20000; client_max_body_size 0;\n" +
		"location / { proxy_pass http://$release; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $host;\n" +
		"proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme; }\n" +
		"location = /nginx-status { stub_status; } }\n}\n"
	cmd, err := b.nginx(ctx, s.core(), "nginx", conf, ports[0])
	if err != nil {
		return nil, err
	}
	return &proxy{name: "nginx", addr: ports[0], pid: cmd.Process.Pid, cmd: cmd, conf: conf}, nil
}

func (b *bench) startHaproxy(ctx context.Context, s setup) (*proxy, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	sink, err := b.logSink()
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf(`global
  nbthread %d
  maxconn 9500
  log %s len 1024 local0
defaults
  mode http
  log global
  option httplog
  timeout connect 3s
  timeout client 1h
  timeout server 1h
frontend front
  bind %s backlog 4096
  unique-id-format %%[uuid()]
  unique-id-header X-Request-Id
  option forwardfor
  use_backend v2 if { rand(100) lt 10 }
  default_backend v1
backend v1
  http-reuse always
  server a %s
backend v2
  http-reuse always
  server b %s
`, s.workers, sink, ports[0], b.backend.tcp[0], b.backend.tcp[1])
	file := filepath.Join(b.dir, "haproxy.cfg")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	cmd, err := b.child(s.core(), nil, "haproxy", "-db", "-f", file)
	if err != nil {
		return nil, err
	}
	return &proxy{name: "haproxy", addr: ports[0], pid: cmd.Process.Pid, cmd: cmd, conf: conf}, await(ctx, ports[0])
}

// logSink is a socket that takes haproxy's log and forgets it.
func (b *bench) logSink() (string, error) {
	path := filepath.Join(b.dir, "log.sock")
	os.Remove(path)
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return "", err
	}
	go func() {
		buf := make([]byte, 64<<10)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}()
	return path, nil
}

func (b *bench) startCaddy(ctx context.Context, s setup) (*proxy, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	to := strings.Repeat(b.backend.tcp[0]+" ", 9) + b.backend.tcp[1]
	conf := fmt.Sprintf(`{
	admin off
	auto_https off
}
http://%s {
	log {
		output file %s/caddy-access.log
	}
	reverse_proxy %s {
		lb_policy random
		header_up X-Request-Id {http.request.uuid}
	}
}
`, ports[0], b.dir, to)
	file := filepath.Join(b.dir, "Caddyfile")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	cmd, err := b.child(s.core(), []string{"GOMAXPROCS=" + strconv.Itoa(s.workers), "HOME=" + b.dir}, "caddy", "run", "--config", file, "--adapter", "caddyfile")
	if err != nil {
		return nil, err
	}
	return &proxy{name: "caddy", addr: ports[0], pid: cmd.Process.Pid, cmd: cmd, conf: conf}, await(ctx, ports[0])
}

// startGapless runs `gapless proxy` with a table.
func (b *bench) startGapless(ctx context.Context, s setup) (*proxy, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	addr := ports[0]
	name, to := "gapless", b.backend.tcp
	if s.unix {
		name = "gapless, unix sockets"
		for i, path := range b.backend.unix {
			to[i] = "unix:" + path
		}
	}
	table := root.Table{Version: 1}
	for i := range max(1, s.hosts) {
		r := root.Route{App: "bench", Listen: []string{addr}, Path: "/", Stable: "v1", Hold: root.Duration(5 * time.Second),
			Weights: []root.Weight{{Release: "v1", Share: 0.9}, {Release: "v2", Share: 0.1}},
			Targets: []root.Target{{Instance: "i1", Release: "v1", Address: to[0]}, {Instance: "i2", Release: "v2", Address: to[1]}},
			Probe:   root.Health{Interval: root.Duration(time.Hour), Timeout: root.Duration(time.Second)}}
		if i == 0 {
			r.AccessLog = &root.AccessLog{Path: filepath.Join(b.dir, "gapless-access.log"), Format: root.AccessCombined, LogPolicy: root.LogPolicy{MaxSize: 100 << 20, Keep: 1}}
		}
		if s.hosts > 0 {
			name = fmt.Sprintf("gapless, %d routes", s.hosts)
			r.App = fmt.Sprintf("bench-%d", i)
			r.Hosts = []string{fmt.Sprintf("host-%d.test", i)}
			r.Targets = r.Targets[:1]
			r.Weights = []root.Weight{{Release: "v1", Share: 1}}
			if i > 0 {
				r.Path = fmt.Sprintf("/app-%d", i)
			}
		}
		if s.tls {
			cert, key, err := b.certificate()
			if err != nil {
				return nil, err
			}
			r.TLS = &root.TLS{Listen: []string{addr}, Cert: cert, Key: key}
		}
		table.Routes = append(table.Routes, r)
	}
	data, err := json.Marshal(table)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, fmt.Sprintf("table-%d.json", len(b.children)))
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, err
	}
	cmd, err := b.child(s.core(), nil, b.gapless, "proxy", "--table", file, "--workers", strconv.Itoa(s.workers))
	if err != nil {
		return nil, err
	}
	return &proxy{name: name, addr: addr, pid: cmd.Process.Pid, cmd: cmd, conf: "gapless proxy --table FILE --workers " + strconv.Itoa(s.workers) + "\n" + string(data) + "\n"}, await(ctx, addr)
}

// certificate makes a self-signed one, once.
func (b *bench) certificate() (cert, key string, err error) {
	cert, key = filepath.Join(b.dir, "cert.pem"), filepath.Join(b.dir, "key.pem")
	if _, err := os.Stat(key); err == nil {
		return cert, key, nil
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	t := x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, &t, &t, &k.PublicKey, k)
	if err != nil {
		return "", "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", "", err
	}
	return cert, key, errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
}

// startUp runs the shipped edge, as `gapless up` does, with keeper and daemon
// beside it. Its app is a backend of its own.
func (b *bench) startUp(ctx context.Context, _ setup) (*proxy, error) {
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	conf := "daemon off; master_process off; worker_processes 1; error_log stderr crit; pid " + b.dir + "/app.pid;\n" +
		"events { worker_connections 4096; }\nhttp { access_log off; keepalive_requests 1000000000;\n" + tempPaths(b.dir) +
		"server { listen 127.0.0.1:@PORT@; location / { return 200 '" + strings.Repeat("x", 1024) + "'; } }\n}\n"
	g := &gapless{bench: b, dir: filepath.Join(b.dir, "app"), home: filepath.Join(b.dir, "h")}
	if err := g.up(ctx, ports[0], conf); err != nil {
		return nil, err
	}
	pid, err := g.edge(ctx)
	if err != nil {
		return nil, errors.Join(err, g.down())
	}
	return &proxy{name: "gapless up", addr: ports[0], pid: pid, down: g.down}, await(ctx, ports[0])
}

// freePorts finds addresses on 127.0.0.1 below the range for outgoing connections.
func freePorts(n int) ([]string, error) {
	var found []string
	for ; nextPort < 32000 && len(found) < n; nextPort++ {
		addr := "127.0.0.1:" + strconv.Itoa(nextPort)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		l.Close()
		found = append(found, addr)
	}
	if len(found) < n {
		return nil, errors.New("no free ports")
	}
	return found, nil
}

var nextPort = 18000 + os.Getpid()%4000

func await(ctx context.Context, addr string) error {
	for end := time.Now().Add(20 * time.Second); ctx.Err() == nil; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			// It says something, even if that is no to a TLS port: it serves.
			c.SetDeadline(time.Now().Add(time.Minute))
			if _, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: host-0.test\r\nConnection: close\r\n\r\n"); err == nil {
				_, err = io.Copy(io.Discard, c)
			}
			c.Close()
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
		}
		if time.Now().After(end) {
			return fmt.Errorf("wait for %s: %w", addr, err)
		}
	}
	return ctx.Err()
}

func tempPaths(dir string) string {
	var b strings.Builder
	for _, k := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&b, "%s_temp_path %s/tmp_%s;\n", k, dir, k)
	}
	return b.String()
}
