package loader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/maps"
	"qlbaas/tests/lab/labtest"
)

const patience = 5 * time.Second

// inside runs fn in the pool's namespace.
func (s *street) inside(n *Node, b *Balancer, fn func() error) {
	s.Helper()
	if err := n.Inside(b.PoolID, fn); err != nil {
		s.Fatal(err)
	}
}

// listenInside is a sidecar that says so, and then repeats what it hears.
func (s *street) listenInside(n *Node, b *Balancer) net.Listener {
	s.Helper()
	var listener net.Listener
	s.inside(n, b, func() (err error) {
		listener, err = net.Listen("tcp", addrPort(b).String())
		return err
	})
	s.Cleanup(func() { listener.Close() })
	go serve(listener, "sidecar")
	return listener
}

// dialInside is what a sidecar has with a member; port 0 is any.
func (s *street) dialInside(n *Node, b *Balancer, port uint16, to netip.AddrPort) net.Conn {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	s.Cleanup(cancel)
	var conn net.Conn
	s.inside(n, b, func() (err error) {
		from := net.TCPAddrFromAddrPort(netip.AddrPortFrom(b.VIP.Address.Addr(), port))
		// Only a dial that needs no second goroutine stays on this thread.
		d := net.Dialer{LocalAddr: from, FallbackDelay: -1, Control: func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			})
			return errors.Join(err, failed)
		}}
		conn, err = d.DialContext(ctx, "tcp", to.String())
		return err
	})
	s.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	said := make([]byte, len(to.String())+1)
	if _, err := io.ReadFull(conn, said); err != nil || strings.TrimSpace(string(said)) != to.String() {
		s.Fatalf("member said %q: %v", said, err)
	}
	return conn
}

func (s *street) wantEcho(what string, conn net.Conn) {
	s.Helper()
	conn.SetDeadline(time.Now().Add(patience))
	const text = "is anybody there?"
	heard := make([]byte, len(text))
	_, err := io.WriteString(conn, text)
	if err == nil {
		_, err = io.ReadFull(conn, heard)
	}
	if err != nil || string(heard) != text {
		s.Errorf("%s: heard %q: %v", what, heard, err)
	}
}

func (s *street) wantOwnPorts(n *Node, b *Balancer, want string) {
	s.Helper()
	s.inside(n, b, func() error {
		found, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
		if err == nil && strings.TrimSpace(string(found)) != want {
			s.Errorf("own ports %q, want %q", found, want)
		}
		return err
	})
}

func (s *street) drops(n *Node, b *Balancer, reason string) uint64 {
	s.Helper()
	stats, err := n.Stats(b.PoolID)
	if err != nil {
		s.Fatal(err)
	}
	return stats.Drops[reason]
}

// A pool changes from the kernel to a sidecar and back, and no connection notices.
func TestSidecar(t *testing.T) {
	for _, hook := range []string{HookTCX, HookClsact, HookXDP} {
		t.Run(hook, func(t *testing.T) {
			s, b := newStreet(t, hook)
			n := s.open()
			s.apply(n, b)
			balanced, err := s.dial(addrPort(&b), patience)
			if err != nil {
				t.Fatal(err)
			}
			defer balanced.Close()

			listener := s.listenInside(n, &b)
			b.Sidecar = SidecarServes
			s.apply(n, b)
			served, err := s.dial(addrPort(&b), patience)
			if err != nil {
				t.Fatal(err)
			}
			defer served.Close()
			if served.member != "sidecar" {
				t.Errorf("connected to %s", served.member)
			}
			s.wantOwnPorts(n, &b, probePorts) // the kernel still has connections
			toMember := s.dialInside(n, &b, s.nextPort(n, &b), b.Members[0].Address)
			s.wantEcho("sidecar's connection to a member", toMember)
			s.wantEcho("connection of the kernel", balanced)
			s.strangersBesideSidecar(n, &b)
			over := s.endedBySidecar(n, &b)

			b.Sidecar = SidecarLeaves
			s.apply(n, b)
			taken := s.drops(n, &b, "port_taken")
			for range 2 { // one of the two meets the socket's port, and tries again
				if said, err := s.ask(addrPort(&b), patience); err != nil || said == "sidecar" {
					t.Errorf("the kernel balances again: %q, %v", said, err)
				}
			}
			if grown := s.drops(n, &b, "port_taken") - taken; grown != 1 {
				t.Errorf("%d ports were taken, want 1", grown)
			}
			// Its socket is not asked, although there is a listener that would take it.
			again, err := s.dialFrom(over, addrPort(&b), patience)
			if err != nil {
				t.Fatal(err)
			}
			defer again.Close()
			if again.member == "sidecar" {
				t.Error("a connection that was over is the sidecar's again")
			}
			listener.Close()
			s.wantEcho("client of the sidecar that leaves", served)
			s.wantEcho("its connection to a member", toMember)
			s.wantEcho("connection of the kernel", balanced)

			b.Sidecar = NoSidecar
			s.apply(n, b)
			s.wantEcho("connection of the kernel", balanced)
			if err := served.say("?", patience); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("a connection that nobody has: %v", err)
			}
			s.remove(n, b)
		})
	}
}

// endedBySidecar is where a client had a connection that the sidecar was the first to
// close: its socket waits for what may still be under way.
func (s *street) endedBySidecar(n *Node, b *Balancer) (client net.Addr) {
	s.Helper()
	c, err := s.dial(addrPort(b), patience)
	if err != nil {
		s.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, goodbye)
	if _, err := c.lines.ReadByte(); err != io.EOF {
		s.Fatalf("no end: %v", err)
	}
	c.Close()
	own := c.LocalAddr().(*net.TCPAddr)
	const timeWait = "06"
	waits := fmt.Sprintf(":%04X %s ", own.Port, timeWait)
	labtest.Until(s, patience, func() error {
		var sockets []byte
		s.inside(n, b, func() (err error) {
			sockets, err = os.ReadFile("/proc/thread-self/net/tcp")
			return err
		})
		if !strings.Contains(string(sockets), waits) {
			return fmt.Errorf("the sidecar's socket does not wait:\n%s", sockets)
		}
		return nil
	})
	return own
}

// nextPort is the port that the kernel would take for its next connection to the first
// member.
func (s *street) nextPort(n *Node, b *Balancer) uint16 {
	s.Helper()
	p := n.find(b.PoolID)
	for _, m := range p.membersNow() {
		if m.id != b.Members[0].ID {
			continue
		}
		ports, err := p.view.Ports(m.slot, 0)
		if err != nil {
			s.Fatal(err)
		}
		return natPortMin + uint16(ports.Cursor%maps.NATPorts)
	}
	s.Fatal("no such member")
	return 0
}

// strangersBesideSidecar: what is for no socket passes no more than before.
func (s *street) strangersBesideSidecar(n *Node, b *Balancer) {
	s.Helper()
	before := s.drops(n, b, "nat_nomap")
	vip := b.VIP.Address.Addr()
	if _, err := s.ask(netip.AddrPortFrom(vip, 30000), silence); !isSilence(err) {
		s.Errorf("a port of nobody: %v", err)
	}
	if s.drops(n, b, "nat_nomap") == before {
		s.Error("it was not counted")
	}
	conn, err := net.Dial("udp", addrPort(b).String())
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(silence))
	conn.Write([]byte("?"))
	if _, err := conn.Read(make([]byte, 1)); !isSilence(err) {
		s.Errorf("a datagram to the listener's number: %v", err)
	}
}

// A new pool's sidecar has all ports, its VIP's excepted.
func TestSidecarPorts(t *testing.T) {
	s, b := newStreet(t, HookTCX)
	n := s.open()
	b.Sidecar, b.VIP.Port, b.VIP.AdminUp = SidecarServes, 8080, false
	if err := n.Inside(b.PoolID, func() error { return nil }); !errors.Is(err, ErrNotDeployed) {
		t.Errorf("inside of nothing: %v", err)
	}
	s.apply(n, b)
	s.wantOwnPorts(n, &b, sidecarPorts)
	s.inside(n, &b, func() error {
		found, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_reserved_ports")
		if err == nil && strings.TrimSpace(string(found)) != "8080" {
			t.Errorf("reserved ports %q", found)
		}
		return err
	})
	s.listenInside(n, &b)
	b.VIP.AdminUp = true
	s.apply(n, b)
	if said, err := s.ask(addrPort(&b), patience); err != nil || said != "sidecar" {
		t.Errorf("connected to %q: %v", said, err)
	}
	// It goes on without the program: there is no guard before its sockets.
	s.dialInside(n, &b, 0, b.Members[1].Address)
	b.Protocol = UDP
	if err := n.Apply(t.Context(), b); !errors.Is(err, ErrInvalid) {
		t.Errorf("UDP with a sidecar: %v", err)
	}
	b.Protocol = TCP
	s.remove(n, b)
}
