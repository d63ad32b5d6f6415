package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is a network namespace with a name. Its methods are safe for concurrent use.
type Host struct {
	lab  *Lab
	name string
	ns   int             // descriptor of the namespace
	nl   *netlink.Handle // its sockets live in the namespace

	mu         sync.Mutex
	transports []*http.Transport // guarded by mu
}

func newHost(l *Lab, name string) (*Host, error) {
	ns, err := addNamespace(name)
	if err != nil {
		return nil, err
	}
	h := &Host{lab: l, name: name, ns: ns}
	if err := h.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare host %s: %w", name, err), h.remove())
	}
	return h, nil
}

// prepare opens the host's netlink sockets and sets what is the same everywhere.
func (h *Host) prepare() error {
	err := h.Do(func() (err error) {
		h.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	// Devices get no IPv6 address that nobody asked for, and those asked for work at
	// once: no router solicitations, reports and probes beside the test's packets.
	for key, value := range map[string]string{
		"net.ipv6.conf.default.addr_gen_mode": "1",
		"net.ipv6.conf.default.accept_dad":    "0",
	} {
		if err := h.Sysctl(key, value); err != nil {
			return err
		}
	}
	return h.SetUp("lo")
}

// Name is the namespace's name, as `ip netns` shows it.
func (h *Host) Name() string { return h.name }

// Path is the namespace's file, for setns and nsenter.
func (h *Host) Path() string { return filepath.Join(netnsDir, h.name) }

// Namespace is a descriptor of the namespace, owned by the host.
func (h *Host) Namespace() int { return h.ns }

// Netlink is the host's own netlink handle, for what has no method here.
func (h *Host) Netlink() *netlink.Handle { return h.nl }

// Do calls fn on a thread inside the host's namespace and returns its result.
// Sockets that fn makes stay in the namespace; goroutines that it starts do not
// begin there. The thread ends with fn.
func (h *Host) Do(fn func() error) error {
	if err := onThread(h.ns, fn); err != nil {
		return fmt.Errorf("on %s: %w", h.name, err)
	}
	return nil
}

// Sysctl sets a kernel parameter of the host, as in ("net.ipv4.ip_forward", "1").
// Only those below net. belong to a host.
func (h *Host) Sysctl(key, value string) error {
	if !strings.HasPrefix(key, "net.") || strings.ContainsAny(key, "/ ") {
		return fmt.Errorf("set sysctl %s: not a parameter of a network namespace", key)
	}
	path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
	return h.Do(func() error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			return fmt.Errorf("set sysctl %s: %w", key, err)
		}
		_, err = f.WriteString(value)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("set sysctl %s to %s: %w", key, value, err)
		}
		return nil
	})
}

// literal refuses names, which would be resolved on threads outside the namespace.
func literal(address string) error {
	if _, err := netip.ParseAddrPort(address); err == nil {
		return nil
	}
	if _, port, err := net.SplitHostPort(address); err == nil && strings.HasPrefix(address, ":") && port != "" {
		return nil // every address of the host
	}
	return fmt.Errorf("%q is no literal address with a port", address)
}

// silent, as an interval of keepalives, means none: a connection that a test calls idle is.
const silent = -1

// Listen opens a TCP listener ("tcp", "tcp4", "tcp6") inside the host. The address
// is a literal with a port; ":80" means all addresses. The caller closes it.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	if err := literal(address); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", h.name, err)
	}
	// Plain TCP, as most servers speak; Go's default would be MPTCP.
	config := net.ListenConfig{KeepAlive: silent}
	config.SetMultipathTCP(false)
	var l net.Listener
	err := h.Do(func() (err error) {
		l, err = config.Listen(context.Background(), network, address)
		return err
	})
	return l, err
}

// ListenPacket opens a UDP socket inside the host; see Listen.
func (h *Host) ListenPacket(network, address string) (net.PacketConn, error) {
	if err := literal(address); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", h.name, err)
	}
	var conn net.PacketConn
	err := h.Do(func() (err error) {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, err
}

// Dial connects from the host to a literal address with a port.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return h.DialFrom(ctx, netip.AddrPort{}, network, address)
}

// DialFrom is Dial from one of the host's addresses; port 0 lets the kernel choose,
// and the zero AddrPort leaves the address to it as well.
func (h *Host) DialFrom(ctx context.Context, local netip.AddrPort, network, address string) (net.Conn, error) {
	if err := literal(address); err != nil {
		return nil, fmt.Errorf("dial from %s: %w", h.name, err)
	}
	dialer := net.Dialer{KeepAlive: silent}
	switch {
	case !local.IsValid():
	case strings.HasPrefix(network, "udp"):
		dialer.LocalAddr = net.UDPAddrFromAddrPort(local)
	default:
		dialer.LocalAddr = net.TCPAddrFromAddrPort(local)
	}
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = dialer.DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// HTTPOptions of a client; the zero value opens a new connection for each request,
// follows no redirect and verifies no certificate.
type HTTPOptions struct {
	// Local is the address of the host to connect from.
	Local netip.Addr
	// KeepAlive re-uses connections.
	KeepAlive bool
}

// HTTPClient returns a client whose connections start inside the host. URLs hold
// literal addresses. It has no timeout: give each request a context.
func (h *Host) HTTPClient(o HTTPOptions) *http.Client {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return h.DialFrom(ctx, netip.AddrPortFrom(o.Local, 0), network, address)
		},
		DisableKeepAlives:  !o.KeepAlive,
		DisableCompression: true,
		TLSClientConfig:    insecure(),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.transports = append(h.transports, transport)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// remove ends what lives in the host and takes its name away.
func (h *Host) remove() error {
	killed, err := killInside(h.ns)
	return errors.Join(strays(h.name, killed), err, deleteLinks(h.ns), h.closeHandles(), removeNamespace(h.name))
}

func (h *Host) closeHandles() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.transports {
		t.CloseIdleConnections()
	}
	h.transports = nil
	if h.nl != nil {
		h.nl.Close()
	}
	if err := unix.Close(h.ns); err != nil {
		return fmt.Errorf("close namespace %s: %w", h.name, err)
	}
	return nil
}
