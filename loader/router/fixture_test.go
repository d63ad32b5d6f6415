package router

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/change"
	"qlbaas/loader/hook"
	"qlbaas/loader/netspace"
	"qlbaas/loader/rtnl"
	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// world is where one test deploys its routers: own pins, an external network with a client
// in it, and inside networks.
type world struct {
	testing.TB
	opts   Options
	lab    *lab.Lab
	client *lab.Host
	steps  []string // that operations have taken
}

const externalBridge = "br-ext"

var clientAddr = netip.MustParseAddr("10.10.10.4")

func newWorld(t testing.TB, h string) *world {
	t.Helper()
	w := &world{TB: t, lab: labtest.New(t)}
	w.options(h)
	w.bridge(externalBridge)
	w.client = w.host("client", externalBridge, netip.PrefixFrom(clientAddr, 24), netip.Addr{})
	return w
}

// options are those that nodes are opened with.
func (w *world) options(h string) {
	w.Helper()
	w.opts = Options{
		BPFFS: filepath.Join("/sys/fs/bpf", fmt.Sprintf("t%x", random(w, 4))), Hook: h,
		Log: slog.New(slog.NewTextHandler(w.Output(), nil)),
		fault: func(step string) error {
			w.steps = append(w.steps, step)
			return nil
		},
	}
	w.Cleanup(func() { os.RemoveAll(w.opts.BPFFS) })
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func random(t testing.TB, n int) []byte {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

func newUUID(t testing.TB) string {
	b := random(t, 16)
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func newMAC(t testing.TB) net.HardwareAddr {
	return append(net.HardwareAddr{0xfa, 0x16, 0x3e}, random(t, 3)...)
}

// bridge makes a bridge in the test's own namespace, which is the node.
func (w *world) bridge(name string) {
	w.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	w.must(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	link, err := netlink.LinkByName(name)
	w.must(err)
	w.Cleanup(func() {
		if err := netlink.LinkDel(link); err != nil {
			w.Error(err)
		}
	})
	w.must(netlink.LinkSetUp(link))
}

// host builds a host on a bridge.
func (w *world) host(name, bridge string, address netip.Prefix, gateway netip.Addr) *lab.Host {
	w.Helper()
	host, err := w.lab.Host(name)
	w.must(err)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace = "eth0", netlink.NsFd(host.Namespace())
	on, err := netlink.LinkByName(bridge)
	w.must(err)
	pair.MasterIndex = on.Attrs().Index
	w.must(netlink.LinkAdd(pair))
	w.must(netlink.LinkSetUp(pair))
	w.must(host.AddAddress("eth0", address))
	w.must(host.SetUp("eth0"))
	if w.opts.Hook == hook.NameClsact {
		// Whatever the host is sent is whole: a wrong sum cannot hide in a partial one.
		w.must(hook.SetOffloads(w.Context(), change.Steps{}, name, false))
	}
	if gateway.IsValid() {
		w.must(host.AddRoute(netip.PrefixFrom(netip.IPv4Unspecified(), 0), gateway))
	}
	return host
}

// open opens the routers of the node, until the test ends or closes them.
func (w *world) open() *Node {
	w.Helper()
	n, err := Open(w.Context(), w.opts)
	w.must(err)
	w.Cleanup(func() { n.Close() })
	return n
}

// site is an inside network with its router, a server behind a floating IP and a host
// without one.
type site struct {
	Router
	bridge       string
	server, poor *lab.Host
	echo         *lab.Echo
}

var (
	serverAddr  = netip.MustParseAddr("172.16.50.11")
	poorAddr    = netip.MustParseAddr("172.16.50.20")
	gatewayAddr = netip.MustParseAddr("172.16.50.1")
)

const echoPort = 7

// site builds the n-th one, all of which have the same addresses inside.
func (w *world) site(n byte) *site {
	w.Helper()
	s := &site{bridge: fmt.Sprintf("br-in%d", n)}
	w.bridge(s.bridge)
	s.Router = Router{
		ID: newUUID(w), AdminUp: true, SNAT: true,
		External: &Leg{
			PortID: newUUID(w), MAC: newMAC(w), Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 10, 10, 100 + n}), 24),
			Bridge: externalBridge, Gateway: netip.MustParseAddr("10.10.10.254"),
		},
		Inside: []Leg{{
			PortID: newUUID(w), MAC: newMAC(w), Address: netip.PrefixFrom(gatewayAddr, 24), Bridge: s.bridge,
		}},
		Floating: []Floating{{ID: newUUID(w), Address: netip.AddrFrom4([4]byte{10, 10, 10, 6 + n}), Fixed: serverAddr}},
	}
	s.server = w.host(fmt.Sprintf("server%d", n), s.bridge, netip.PrefixFrom(serverAddr, 24), gatewayAddr)
	s.poor = w.host(fmt.Sprintf("poor%d", n), s.bridge, netip.PrefixFrom(poorAddr, 24), gatewayAddr)
	echo, err := s.server.StartEcho(fmt.Sprintf("server%d", n), netip.AddrPortFrom(serverAddr, echoPort))
	w.must(err)
	s.echo = echo
	return s
}

func (s *site) floating() netip.AddrPort { return netip.AddrPortFrom(s.Floating[0].Address, echoPort) }

func (w *world) apply(n *Node, r Router) {
	w.Helper()
	w.must(n.Apply(w.Context(), r))
}

func (w *world) remove(n *Node, r Router) {
	w.Helper()
	w.must(n.Remove(w.Context(), r.ID))
}

// leftovers lists everything of routers that is in sight.
func (w *world) leftovers() (found []string) {
	w.Helper()
	for _, pattern := range []string{
		filepath.Join(netspace.Dir, namespacePrefix+"*"), filepath.Join(w.opts.BPFFS, "routers", "*"),
	} {
		paths, err := filepath.Glob(pattern)
		w.must(err)
		found = append(found, paths...)
	}
	links, err := rtnl.Dump(netlink.LinkList)
	w.must(err)
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, outsidePrefix) || strings.HasPrefix(l.Attrs().Alias, aliasPrefix) {
			found = append(found, l.Attrs().Name)
		}
	}
	return found
}

func (w *world) wantNothingLeft() {
	w.Helper()
	if found := w.leftovers(); len(found) > 0 {
		w.Errorf("left over: %q", found)
	}
}

// onEveryHook runs the test once on each hook.
func onEveryHook(t *testing.T, test func(w *world)) {
	for _, h := range []string{hook.NameTCX, hook.NameClsact, hook.NameXDP} {
		t.Run(h, func(t *testing.T) { test(newWorld(t, h)) })
	}
}

// patience bounds what has to happen, silence is how long no answer is taken for none.
const (
	patience = 10 * time.Second
	silence  = 700 * time.Millisecond
)

// dial connects and returns the connection and who answered.
func (w *world) dial(from *lab.Host, to netip.AddrPort, wait time.Duration) (net.Conn, string, error) {
	ctx, cancel := context.WithTimeout(w.Context(), wait)
	defer cancel()
	conn, err := from.Dial(ctx, "tcp", to.String())
	if err != nil {
		return nil, "", err
	}
	conn.SetDeadline(time.Now().Add(wait))
	name := make([]byte, len("server0\n"))
	if _, err := conn.Read(name); err != nil {
		conn.Close()
		return nil, "", err
	}
	return conn, strings.TrimSpace(string(name)), nil
}

// reaches wants a connection, and returns whom the server saw at its other end.
func (w *world) reaches(from *lab.Host, to netip.AddrPort, s *site) netip.Addr {
	w.Helper()
	conn, name, err := w.dial(from, to, patience)
	if err != nil {
		w.Fatalf("%s to %s: %v", from.Name(), to, err)
	}
	defer conn.Close()
	if name != s.echo.Name() {
		w.Errorf("%s to %s: answered by %s", from.Name(), to, name)
	}
	peers := s.echo.Peers()
	if len(peers) == 0 {
		w.Fatal("the server sees nobody")
	}
	return peers[len(peers)-1].Addr()
}

// say sends text and expects to hear it.
func say(conn net.Conn, text string) error {
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte(text)); err != nil {
		return err
	}
	heard := make([]byte, len(text))
	for n := 0; n < len(heard); {
		more, err := conn.Read(heard[n:])
		if err != nil {
			return err
		}
		n += more
	}
	if string(heard) != text {
		return fmt.Errorf("heard %q", heard)
	}
	return nil
}

// ping sends an echo request from the host and waits for the reply.
func (w *world) ping(from *lab.Host, to netip.Addr, size, ttl int, wait time.Duration) error {
	var fd int
	err := from.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	message := make([]byte, 8+size)
	message[0], message[4], message[5], message[7] = 8, 0x12, 0x34, 1
	sum := uint32(8<<8) + 0x1234 + 1
	message[2], message[3] = byte(^sum>>8), byte(^sum)
	timeout := unix.NsecToTimeval(int64(wait))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return err
	}
	if ttl > 0 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl); err != nil {
			return err
		}
	}
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrInet4{Addr: to.As4()}); err != nil {
		return err
	}
	for {
		answer := make([]byte, 65536)
		n, _, err := unix.Recvfrom(fd, answer, 0)
		if errors.Is(err, unix.EINTR) {
			continue // the runtime has sent this thread a signal
		}
		if err != nil {
			return err
		}
		source, _ := netip.AddrFromSlice(answer[12:16])
		switch kind := answer[20]; {
		case n >= 28 && kind == 0 && source == to && answer[24] == 0x12:
			return nil
		case n >= 48 && (kind == 3 || kind == 11):
			about, _ := netip.AddrFromSlice(answer[44:48])
			return icmpError{kind: kind, code: answer[21], from: source, about: about}
		}
	}
}

// icmpError is what a ping came to.
type icmpError struct {
	kind, code  byte
	from, about netip.Addr
}

func (e icmpError) Error() string {
	return fmt.Sprintf("%s says %d/%d about a packet to %s", e.from, e.kind, e.code, e.about)
}

// mtu makes a bridge, and so the legs on it, carry less.
func (w *world) mtu(bridge string, size int) {
	w.Helper()
	on, err := netlink.LinkByName(bridge)
	w.must(err)
	w.must(netlink.LinkSetMTU(on, size))
}

// narrow gives a host a way out that carries less than the host lets others believe: they
// are to find out.
func (w *world) narrow(host *lab.Host, gateway netip.Addr, size int) {
	w.Helper()
	w.must(host.Netlink().RouteReplace(&netlink.Route{
		Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Gw: gateway.AsSlice(), MTU: size, MTULock: true, AdvMSS: 1460,
	}))
}

// flushRoutes makes a host forget what it has found out.
func (w *world) flushRoutes(host *lab.Host) {
	w.Helper()
	w.must(host.Sysctl("net.ipv4.route.flush", "1"))
}

func isRefused(err error) bool     { return errors.Is(err, unix.ECONNREFUSED) }
func isInvalid(err error) bool     { return errors.Is(err, ErrInvalid) }
func isNotDeployed(err error) bool { return errors.Is(err, ErrNotDeployed) }
