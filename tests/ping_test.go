package tests

import (
	"bytes"
	endian "encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"time"

	"qlbaas/tests/packet"
	"qlbaas/tests/rows"
)

// pinger asks an address for echoes.
type pinger struct {
	conn *net.IPConn
	// ask and answer are the types of message.
	ask, answer byte
	seq         uint16
}

// pingID tells the tests' pings from others.
const pingID = 0x5150

func (w *world) pinger(to netip.Addr) *pinger {
	w.t.Helper()
	p := &pinger{ask: 8}
	network := "ip4:icmp"
	if version(to) == 6 {
		p.ask, p.answer, network = 128, 129, "ip6:ipv6-icmp"
	}
	err := w.Client.Do(func() (err error) {
		p.conn, err = net.DialIP(network, nil, &net.IPAddr{IP: to.AsSlice()})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.conn.Close() })
	return p
}

// send asks once, with so many bytes.
func (p *pinger) send(size int) error {
	p.seq++
	m := []byte{p.ask, 0, 0, 0}
	m = endian.BigEndian.AppendUint16(m, pingID)
	m = endian.BigEndian.AppendUint16(m, p.seq)
	m = append(m, packet.Repeat(size)...)
	if p.ask == 8 { // the kernel does it for IPv6
		endian.BigEndian.PutUint16(m[2:], packet.Checksum(m))
	}
	_, err := p.conn.Write(m)
	return err
}

// next is the next answer's number and bytes.
func (p *pinger) next(deadline time.Time) (seq uint16, data []byte, err error) {
	if err := p.conn.SetReadDeadline(deadline); err != nil {
		return 0, nil, err
	}
	b := make([]byte, 65536)
	for {
		n, _, err := p.conn.ReadFrom(b)
		if err != nil {
			return 0, nil, err
		}
		if n >= 8 && b[0] == p.answer && endian.BigEndian.Uint16(b[4:]) == pingID {
			return endian.BigEndian.Uint16(b[6:]), b[8:n], nil
		}
	}
}

// echo asks and wants the very answer.
func (p *pinger) echo(size int) error {
	if err := p.send(size); err != nil {
		return err
	}
	for {
		seq, data, err := p.next(time.Now().Add(2 * time.Second))
		if err != nil {
			return fmt.Errorf("ping of %d bytes: %w", size, err)
		}
		if seq != p.seq {
			continue // late
		}
		if !bytes.Equal(data, packet.Repeat(size)) {
			return fmt.Errorf("ping of %d bytes: %d other ones came back", size, len(data))
		}
		return nil
	}
}

// pings: the stack answers for the VIP, whatever the length, fragments included; and no
// more than so many a second.
func pings(w *world) {
	rows.Proves(w.t, 81)
	b := w.balance(balancerOptions{endpoints: w.endpoints(echoPort)})
	f := b.open()
	p := w.pinger(b.at.Addr())
	for _, size := range []int{0, 56, 1472, 8192} {
		if err := p.echo(size); err != nil {
			w.t.Error(err)
		}
	}
	w.pingFlood(b, p)
	until(w.t, patience, func() error { return p.echo(56) })
	w.mustEcho(f)
	if n := b.stats().number("total_connections"); n != 1 {
		w.t.Errorf("%v connections were counted, want the one", n)
	}
}

// The guard's limit: so many a second, and so many at once.
const (
	pingRate  = 1000
	pingBurst = 200
)

// pingFlood sends far more pings than the VIP may answer. Those that arrive are answered,
// or counted by the guard as dropped.
func (w *world) pingFlood(b *balancer, p *pinger) {
	w.t.Helper()
	const count = 3000
	before := w.pingsDropped(b)
	start, first := time.Now(), p.seq
	sent := make(chan error, 1)
	go func() {
		for range count {
			if err := p.send(56); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	answers, last := 0, start
	for {
		seq, _, err := p.next(time.Now().Add(time.Second))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			w.t.Fatal(err)
		}
		if seq > first {
			answers, last = answers+1, time.Now()
		}
	}
	if err := <-sent; err != nil {
		w.t.Fatal(err)
	}
	most := pingBurst + int(last.Sub(start)*pingRate/time.Second) + 1
	dropped := w.pingsDropped(b) - before
	w.t.Logf("%d pings in %s: %d answers, %d dropped", count, last.Sub(start), answers, dropped)
	if answers > most || answers < pingBurst/2 {
		w.t.Errorf("%d pings were answered, want up to %d", answers, most)
	}
	// A burst may overflow the queue of a device on its way.
	if lost := count - answers - dropped; lost < 0 || lost > count/100 {
		w.t.Errorf("%d pings were answered and %d dropped, of %d", answers, dropped, count)
	}
}

// pingsDropped is what the guard has counted.
func (w *world) pingsDropped(b *balancer) int {
	w.t.Helper()
	rule := regexp.MustCompile(`echo-request limit rate over 1000/second burst 200 packets counter packets (\d+)`)
	rules := w.inside(b, "nft", "list", "table", "inet", "qlbaas")
	found := rule.FindStringSubmatch(rules)
	if found == nil {
		w.t.Fatalf("no limit of pings in\n%s", rules)
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}
