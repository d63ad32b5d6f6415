package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"qlbaas/l7/control"
	"qlbaas/l7/pool"
	"qlbaas/l7/proxy"
	"qlbaas/tests/lab"
)

// world is the network with the proxies and members in it.
type world struct {
	lab                   *lab.Lab
	client, node, members *lab.Host
	dir                   string
	proxies               []*subject
	// key makes cookies that the sidecar accepts.
	key []byte
	// haproxyOption is a further line of its defaults.
	haproxyOption string
}

// subject is a proxy that is measured.
type subject struct {
	name    string
	address netip.AddrPort
	process *lab.Process
	// cookie is a value that keeps a client at the first member.
	cookie string
}

const memberCount = 2

var (
	front = netip.MustParseAddr("10.1.0.1")
	back  = netip.MustParseAddr("10.2.0.1")
)

func memberAddress(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 2, 0, byte(10 + i)}) }

// newWorld builds everything. close takes it away.
func newWorld(ctx context.Context, o options) (_ *world, err error) {
	w := &world{key: []byte("0123456789abcdef")}
	if o.splice {
		w.haproxyOption = "option splice-response"
	}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.lab, err = lab.New(lab.Options{Prefix: "bench-"}); err != nil {
		return nil, err
	}
	// Below /run, which is of this private world alone, and where every user may go.
	if w.dir, err = os.MkdirTemp("/run", "l7bench"); err != nil {
		return nil, err
	}
	if err := os.Chmod(w.dir, 0o755); err != nil {
		return nil, err
	}
	for _, step := range []func() error{
		w.network,
		w.startMembers,
		func() error { return w.startSidecar(ctx, o.procs) },
		w.startHAProxy,
		w.startNginx,
		func() error { return w.await(ctx) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *world) close() {
	if w.lab != nil {
		if err := w.lab.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "l7 bench:", err)
		}
	}
	_ = os.RemoveAll(w.dir) // it ends with this world anyway
}

func (w *world) network() (err error) {
	for name, host := range map[string]**lab.Host{"client": &w.client, "node": &w.node, "members": &w.members} {
		if *host, err = w.lab.Host(name); err != nil {
			return err
		}
	}
	var places []netip.Prefix
	for i := range memberCount {
		places = append(places, netip.PrefixFrom(memberAddress(i), 24))
	}
	if err := w.lab.Link(
		lab.End{Host: w.client, Device: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24")}},
		lab.End{Host: w.node, Device: "front", Addresses: []netip.Prefix{netip.PrefixFrom(front, 24)}}, 0); err != nil {
		return err
	}
	return w.lab.Link(
		lab.End{Host: w.members, Device: "eth0", Addresses: places},
		lab.End{Host: w.node, Device: "back", Addresses: []netip.Prefix{netip.PrefixFrom(back, 24)}}, 0)
}

// start writes a configuration, if there is one, and starts a program.
func (w *world) start(host *lab.Host, file, text string, command ...string) (*lab.Process, error) {
	path := filepath.Join(w.dir, file)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.Command(command[0], append(command[1:], path)...)
	cmd.Stderr = os.Stderr
	return host.Start(cmd)
}

// sizes are the files that members have.
var sizes = map[string]int{"small": 128, "large": 1 << 20}

func (w *world) startMembers() error {
	www := filepath.Join(w.dir, "www")
	if err := os.Mkdir(www, 0o755); err != nil {
		return err
	}
	for name, size := range sizes {
		if err := os.WriteFile(filepath.Join(www, name), bytes.Repeat([]byte("x"), size), 0o644); err != nil {
			return err
		}
	}
	var servers strings.Builder
	for i := range memberCount {
		fmt.Fprintf(&servers, "server { listen %s:80 backlog=4096; root %s; }\n", memberAddress(i), www)
	}
	_, err := w.start(w.members, "members.conf", w.nginxConfig("members", "sendfile on; tcp_nopush on; open_file_cache max=10;\n"+servers.String()), "nginx", "-c")
	return err
}

// nginxConfig is one process of nginx with these servers.
func (w *world) nginxConfig(name, servers string) string {
	var temporary strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "%s_temp_path %s/%s-%s;\n", kind, w.dir, name, kind)
	}
	return fmt.Sprintf(`daemon off; master_process off; pid %[1]s/%[2]s.pid; error_log %[1]s/%[2]s.log;
events { worker_connections 4096; }
http {
	access_log off; keepalive_requests 10000000; default_type text/plain;
	%[3]s
	%[4]s
}`, w.dir, name, temporary.String(), servers)
}

func (w *world) startHAProxy() error {
	s := &subject{name: "haproxy", address: netip.AddrPortFrom(front, 8002), cookie: "m0"}
	text := fmt.Sprintf(`global
	nbthread 1
	maxconn 4000
defaults
	mode http
	timeout connect 5s
	timeout client 50s
	timeout server 50s
	timeout http-keep-alive 50s
	retries 3
	option redispatch
	%s
frontend in
	bind %s
	option forwardfor
	default_backend pool
backend pool
	balance roundrobin
	cookie SRV insert indirect nocache
`, w.haproxyOption, s.address)
	for i := range memberCount {
		text += fmt.Sprintf("\tserver m%d %s:80 cookie m%d\n", i, memberAddress(i), i)
	}
	var err error
	s.process, err = w.start(w.node, "haproxy.conf", text, "haproxy", "-db", "-f")
	w.proxies = append(w.proxies, s)
	return err
}

func (w *world) startNginx() error {
	s := &subject{name: "nginx", address: netip.AddrPortFrom(front, 8003), cookie: "m0"}
	var text strings.Builder
	text.WriteString("map $cookie_SRV $to { default all;")
	for i := range memberCount {
		fmt.Fprintf(&text, " m%d m%d;", i, i)
	}
	text.WriteString(" }\nmap $cookie_SRV $give { default \"SRV=m0; path=/\";")
	for i := range memberCount {
		fmt.Fprintf(&text, " m%d '';", i)
	}
	text.WriteString(" }\nupstream all { keepalive 256; keepalive_requests 10000000;")
	for i := range memberCount {
		fmt.Fprintf(&text, " server %s:80;", memberAddress(i))
	}
	text.WriteString(" }\n")
	for i := range memberCount {
		fmt.Fprintf(&text, "upstream m%d { keepalive 256; keepalive_requests 10000000; server %s:80; }\n", i, memberAddress(i))
	}
	fmt.Fprintf(&text, `server {
	listen %s backlog=4096;
	location / {
		proxy_pass http://$to;
		proxy_http_version 1.1;
		proxy_set_header Connection "";
		proxy_set_header Host $http_host;
		proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
		add_header Set-Cookie $give;
	}
}`, s.address)
	var err error
	s.process, err = w.start(w.node, "nginx.conf", w.nginxConfig("nginx", text.String()), "nginx", "-c")
	w.proxies = append(w.proxies, s)
	return err
}

// config is a pool of all members with SRV cookies.
func (w *world) config() control.Config {
	c := control.Config{Generation: 1, Limits: proxy.Limits{Connections: -1}, Pool: pool.Config{
		AdminUp: true, Method: pool.RoundRobin, Persistence: pool.HTTPCookie, Keys: [][]byte{w.key},
	}}
	for i := range memberCount {
		c.Pool.Members = append(c.Pool.Members, pool.MemberConfig{
			ID: fmt.Sprint("m", i), Address: netip.AddrPortFrom(memberAddress(i), 80), Weight: 1, AdminUp: true, Up: true,
		})
	}
	return c
}

// await returns when every proxy takes connections.
func (w *world) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for _, s := range w.proxies {
		for {
			var conn net.Conn
			conn, err := w.client.Dial(ctx, "tcp", s.address.String())
			if err == nil {
				_ = conn.Close() // it was only a knock
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("await %s: %w", s.name, err)
			case <-s.process.Exited():
				return fmt.Errorf("await %s: it has ended", s.name)
			case <-again.C:
			}
		}
	}
	return nil
}

// ordinary is the user that the sidecar runs as.
var ordinary = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 64123, Gid: 64123}}
