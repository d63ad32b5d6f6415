package tests

import (
	endian "encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// probe is a socket that keeps the ICMP errors about what it has sent, with who sent
// them.
type probe struct {
	x   *ways
	fd  int
	own netip.AddrPort
}

// probe opens a socket inside a host, unix.SOCK_STREAM or unix.SOCK_DGRAM, that takes
// no wait for anything. What it sends has so many hops.
func (x *ways) probe(host *lab.Host, kind, hops int) *probe {
	x.t.Helper()
	family, level, recvErr, ttl := unix.AF_INET, unix.SOL_IP, unix.IP_RECVERR, unix.IP_TTL
	if x.VIP.Is6() {
		family, level, recvErr, ttl = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_RECVERR, unix.IPV6_UNICAST_HOPS
	}
	p := &probe{x: x}
	x.must(host.Do(func() (err error) {
		p.fd, err = unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	}))
	x.t.Cleanup(func() { unix.Close(p.fd) })
	x.must(unix.SetsockoptInt(p.fd, level, recvErr, 1))
	x.must(unix.SetsockoptInt(p.fd, level, ttl, hops))
	return p
}

// connect begins to connect, or says whom datagrams are for.
func (p *probe) connect(to netip.AddrPort) *probe {
	p.x.t.Helper()
	if err := unix.Connect(p.fd, sockaddr(to)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		p.x.t.Fatal(err)
	}
	return p.named()
}

func (p *probe) bind(at netip.AddrPort) *probe {
	p.x.t.Helper()
	p.x.must(unix.Bind(p.fd, sockaddr(at)))
	return p.named()
}

func (p *probe) named() *probe {
	p.x.t.Helper()
	own, err := unix.Getsockname(p.fd)
	p.x.must(err)
	p.own = addrPort(own)
	return p
}

func (p *probe) send(payload string) {
	p.x.t.Helper()
	_, err := unix.Write(p.fd, []byte(payload))
	p.x.must(err)
}

// receive waits for a datagram and returns who has sent it.
func (p *probe) receive() (from netip.AddrPort) {
	p.x.t.Helper()
	until(p.x.t, requestTimeout, func() error {
		_, sender, err := unix.Recvfrom(p.fd, make([]byte, 2048), 0)
		if err == nil {
			from = addrPort(sender)
		}
		return err
	})
	return from
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func addrPort(s unix.Sockaddr) netip.AddrPort {
	switch a := s.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

// complaint is an ICMP error as a socket is told of it.
type complaint struct {
	kind, code uint8
	info       uint32 // the MTU, if it is about one
	errno      unix.Errno
	from       netip.Addr
}

func (c complaint) String() string {
	return fmt.Sprintf("type %d code %d info %d (%v) from %s", c.kind, c.code, c.info, c.errno, c.from)
}

// hears waits for the next ICMP error.
func (p *probe) hears() complaint {
	p.x.t.Helper()
	var c complaint
	until(p.x.t, requestTimeout, func() (err error) {
		c, err = p.queued()
		return err
	})
	return c
}

// queued takes the next ICMP error from the socket's queue, if there is one.
func (p *probe) queued() (complaint, error) {
	control := make([]byte, 512)
	_, n, _, _, err := unix.Recvmsg(p.fd, make([]byte, 2048), control, unix.MSG_ERRQUEUE)
	if err != nil {
		return complaint{}, fmt.Errorf("no ICMP error: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return complaint{}, err
	}
	for _, m := range messages {
		if c, ok := readComplaint(m); ok {
			return c, nil
		}
	}
	return complaint{}, errors.New("something in the queue is no ICMP error")
}

// readComplaint reads struct sock_extended_err and the address behind it.
func readComplaint(m unix.SocketControlMessage) (complaint, bool) {
	four := m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR
	six := m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_RECVERR
	d := m.Data
	if !four && !six || d[4] != unix.SO_EE_ORIGIN_ICMP && d[4] != unix.SO_EE_ORIGIN_ICMP6 {
		return complaint{}, false
	}
	c := complaint{
		errno: unix.Errno(endian.NativeEndian.Uint32(d)),
		kind:  d[5], code: d[6], info: endian.NativeEndian.Uint32(d[8:]),
	}
	if four {
		c.from = netip.AddrFrom4([4]byte(d[20:24]))
	} else {
		c.from = netip.AddrFrom16([16]byte(d[24:40]))
	}
	return c, true
}
