package loader

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
)

// silence is how long no answer is taken for none.
const silence = 700 * time.Millisecond

// street is a world with people in it: the test itself is the client, at the
// gateway's address on the bridge, and the members answer with their names.
type street struct {
	*world
	client netip.Addr
	hosts  []*lab.Host
}

func newStreet(t *testing.T, hook string) (*street, Balancer) {
	t.Helper()
	w := newWorld(t)
	w.opts.Hook = hook
	s := &street{world: w, client: netip.MustParseAddr("172.16.100.1")}
	bridge, err := netlink.LinkByName(bridgeName)
	if err == nil {
		err = netlink.AddrAdd(bridge, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(s.client, 24))})
	}
	if err != nil {
		t.Fatal(err)
	}
	b := w.balancer()
	l := labtest.New(t)
	for i, m := range b.Members {
		s.member(l, i, m)
	}
	return s, b
}

// member builds a member's host, with a server that says its address and then repeats
// what it hears.
func (s *street) member(l *lab.Lab, i int, m Member) {
	s.Helper()
	host, err := l.Host(fmt.Sprintf("member%d", i))
	if err != nil {
		s.Fatal(err)
	}
	s.hosts = append(s.hosts, host)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("m%d", i)
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace = "eth0", netlink.NsFd(host.Namespace())
	bridge, err := netlink.LinkByName(bridgeName)
	if err == nil {
		pair.MasterIndex = bridge.Attrs().Index
		err = firstOf(netlink.LinkAdd(pair), netlink.LinkSetUp(pair))
	}
	if err == nil {
		err = firstOf(host.AddAddress("eth0", netip.PrefixFrom(m.Address.Addr(), 24)), host.SetUp("eth0"))
	}
	if err != nil {
		s.Fatal(err)
	}
	listener, err := host.Listen("tcp", m.Address.String())
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, m.Address.String()+"\n")
				io.Copy(conn, conn)
			}()
		}
	}()
}

// talk is a connection that lasts.
type talk struct {
	net.Conn
	lines *bufio.Reader
	// member is the address that the other end has named.
	member string
}

// dial connects and waits until it is told whom it is talking to.
func (s *street) dial(address netip.AddrPort, patience time.Duration) (*talk, error) {
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address.String())
	if err != nil {
		return nil, err
	}
	t := &talk{Conn: conn, lines: bufio.NewReader(conn)}
	conn.SetDeadline(time.Now().Add(patience))
	if t.member, err = t.lines.ReadString('\n'); err != nil {
		conn.Close()
		return nil, err
	}
	t.member = strings.TrimSpace(t.member)
	return t, nil
}

// say expects to hear itself.
func (t *talk) say(text string, patience time.Duration) error {
	t.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(t, text+"\n"); err != nil {
		return err
	}
	heard, err := t.lines.ReadString('\n')
	if err == nil && heard != text+"\n" {
		err = fmt.Errorf("said %q, heard %q", text, heard)
	}
	return err
}

// ask connects and returns whom it was talking to, or the error.
func (s *street) ask(address netip.AddrPort, patience time.Duration) (string, error) {
	t, err := s.dial(address, patience)
	if err != nil {
		return "", err
	}
	defer t.Close()
	return t.member, nil
}

func isSilence(err error) bool {
	var failure net.Error
	return errors.As(err, &failure) && failure.Timeout()
}

// A pool works from the moment when Apply returns, on every hook, and goes on when
// the hook is changed under it.
func TestTraffic(t *testing.T) {
	for _, hook := range []string{HookTCX, HookClsact, HookXDP} {
		t.Run(hook, func(t *testing.T) {
			s, b := newStreet(t, hook)
			n := s.open()
			s.apply(n, b)
			heard := map[string]int{}
			for range 10 {
				said, err := s.ask(addrPort(&b), 5*time.Second)
				if err != nil {
					t.Fatal(err)
				}
				heard[said]++
			}
			if heard[b.Members[0].Address.String()] != 5 || heard[b.Members[1].Address.String()] != 5 {
				t.Errorf("10 requests went to %v", heard)
			}
			switch hook {
			case HookXDP:
				s.wantFastLane(n, &b, s.sentByXDP)
			case HookTCX:
				s.wantFastLane(n, &b, s.sentOutside)
			}
			s.remove(n, b)
		})
	}
}

// wantFastLane lets a connection talk, and wants the fast lane to have carried it; also when
// the device has got another address.
func (s *street) wantFastLane(n *Node, b *Balancer, sent func(*Node, *Balancer) uint64) {
	s.Helper()
	for _, last := range []byte{b.VIP.MAC[5], b.VIP.MAC[5] ^ 0x55} {
		b.VIP.MAC = slices.Clone(b.VIP.MAC)
		b.VIP.MAC[5] = last
		s.apply(n, *b)
		t, err := s.dial(addrPort(b), patience)
		if err != nil {
			s.Fatal(err)
		}
		before := sent(n, b)
		const words = 50
		for range words {
			if err := t.say("fast?", patience); err != nil {
				s.Fatal(err)
			}
		}
		// Now and then a packet goes inside, for its route.
		if grown := sent(n, b) - before; grown < 2*words-words/2 {
			s.Errorf("the fast lane has sent %d packets of a talk of %d words", grown, words)
		}
		t.Close()
	}
}

// sentOutside is what has been turned around at the outside device.
func (s *street) sentOutside(n *Node, b *Balancer) uint64 {
	s.Helper()
	stats, err := n.Stats(b.PoolID)
	if err != nil {
		s.Fatal(err)
	}
	return stats.Events["outside"]
}

// sentByXDP is what the inside device's program has sent.
func (s *street) sentByXDP(n *Node, b *Balancer) (sent uint64) {
	s.Helper()
	s.inside(n, b, func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		counted, err := tool.Stats(insideName(b.VIP.PortID))
		for what, n := range counted {
			if strings.HasSuffix(what, "xdp_tx") || strings.HasSuffix(what, "xdp_redirect") {
				sent += n
			}
		}
		return err
	})
	return sent
}

// While the program is missing the VIP is silent; it would refuse without the guard.
func TestGuard(t *testing.T) {
	s, b := newStreet(t, HookTCX)
	n := s.open()
	s.apply(n, b)
	site := s.site(&b)
	l, err := link.LoadPinnedLink(filepath.Join(site.pins, linkPins, linkTCX), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := firstOf(l.Detach(), l.Close()); err != nil {
		t.Fatal(err)
	}
	vip := b.VIP.Address.Addr()
	for _, port := range []uint16{b.VIP.Port, natPortMin, natPortMax} {
		if _, err := s.ask(netip.AddrPortFrom(vip, port), silence); !isSilence(err) {
			t.Errorf("port %d without program: %v", port, err)
		}
	}
	s.wantOwnSocket(n, &b)
	if err := sabotage()["guard flushed"](site); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ask(addrPort(&b), silence); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("without guard: %v", err)
	}
	s.apply(n, b)
	if _, err := s.ask(addrPort(&b), 5*time.Second); err != nil {
		t.Error(err)
	}
	s.wantOwnSocket(n, &b)
	s.remove(n, b)
}

// wantOwnSocket connects from within the namespace to a member, as probes do.
func (w *world) wantOwnSocket(n *Node, b *Balancer) {
	w.Helper()
	fd, err := n.Socket(b.PoolID, unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		w.Fatal(err)
	}
	defer unix.Close(fd)
	to := b.Members[0].Address
	err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		w.Fatal(err)
	}
	ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 5000)
	if err != nil || ready != 1 {
		w.Fatalf("poll: %d, %v", ready, err)
	}
	if code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		w.Errorf("connect from the namespace: %v, %v", unix.Errno(code), err)
	}
	name, err := unix.Getsockname(fd)
	if own, ok := name.(*unix.SockaddrInet4); err != nil || !ok || own.Port < probePortMin {
		w.Errorf("own port: %+v, %v", name, err)
	}
}

// A VIP that is admin-down is silent, ARP included, and comes back with its state.
func TestSilentVIP(t *testing.T) {
	s, b := newStreet(t, HookTCX)
	n := s.open()
	s.apply(n, b)
	before := identities(t, n, b.PoolID)
	c, err := s.dial(addrPort(&b), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b.VIP.AdminUp = false
	s.apply(n, b)
	if err := c.say("anybody?", silence); !isSilence(err) {
		t.Errorf("a connection to what is admin-down: %v", err)
	}
	_, err = s.ask(addrPort(&b), silence)
	if !isSilence(err) && !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("admin-down: %v", err)
	}
	b.VIP.AdminUp = true
	s.apply(n, b)
	if _, err := s.ask(addrPort(&b), 5*time.Second); err != nil {
		t.Error(err)
	}
	after := identities(t, n, b.PoolID)
	for _, all := range []map[string]string{before, after} {
		delete(all, filepath.Join(linkPins, linkTap)) // taken off and put back
	}
	wantSame(t, before, after)
	s.remove(n, b)
}

// The connections of a removed member go on until the drain timeout, and are reset
// then.
func TestDrainDeadline(t *testing.T) {
	s, b := newStreet(t, HookTCX)
	n := s.open()
	b.DrainTimeout = 2 * time.Second
	s.apply(n, b)
	c, err := s.dial(addrPort(&b), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, m := range b.Members {
		if m.Address.String() == c.member {
			b.Members = append(b.Members[:i:i], b.Members[i+1:]...)
			break
		}
	}
	removed := time.Now()
	s.apply(n, b)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(removed) < 10*time.Second {
		if err := n.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := c.say("still there", 5*time.Second)
		switch after := time.Since(removed); {
		case err == nil:
		case after < b.DrainTimeout:
			t.Fatalf("ended after %v: %v", after, err)
		case errors.Is(err, unix.ECONNRESET):
			s.remove(n, b)
			return
		default:
			t.Fatalf("not reset: %v", err)
		}
		<-tick.C
	}
	t.Error("the connection outlives its drain")
}

// A member whose MAC changes without a word is found again by the kernel's probes;
// nothing of the traffic itself tells anybody.
func TestMACChangesSilently(t *testing.T) {
	s, b := newStreet(t, HookTCX)
	n := s.open()
	b.Members = b.Members[:1]
	s.apply(n, b)
	if _, err := s.ask(addrPort(&b), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	err := s.hosts[0].Do(func() error {
		device, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetHardwareAddr(device, net.HardwareAddr{2, 0, 0, 7, 7, 7})
	})
	if err != nil {
		t.Fatal(err)
	}
	changed := time.Now()
	for {
		_, err := s.ask(addrPort(&b), silence)
		if err == nil {
			t.Logf("found again after %v", time.Since(changed))
			break
		}
		if time.Since(changed) > 40*time.Second {
			t.Fatal(err)
		}
	}
	s.remove(n, b)
}
