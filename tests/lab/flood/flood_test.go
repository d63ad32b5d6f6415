package flood_test

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/flood"
	"qlbaas/tests/lab/labtest"
	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
)

func TestMain(m *testing.M) { os.Exit(lab.Enter(m.Run)) }

// TestFlood: every frame that leaves is whole, its sums are right, its source is where it
// was to be, and a flood ends by its count.
func TestFlood(t *testing.T) {
	l := labtest.New(t)
	from, err := l.Host("from")
	if err != nil {
		t.Fatal(err)
	}
	to, err := l.Host("to")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Link(lab.End{Host: from, Device: "eth0"}, lab.End{Host: to, Device: "eth0"}, 0); err != nil {
		t.Fatal(err)
	}
	mac, err := to.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	socket := labtest.Socket(t, to, "eth0", afpacket.Options{})

	const count = 4000
	sources := netip.MustParsePrefix("10.128.0.0/9")
	f, err := flood.Start(from, flood.Options{
		Device: "eth0", MAC: mac, Target: netip.MustParseAddrPort("172.16.100.11:80"), Sources: sources,
		Time: time.Minute, Count: count, ACKs: true, Seed: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	senders := map[netip.Addr]int{}
	for n := range count {
		frame, err := socket.Receive(ctx)
		if err != nil {
			t.Fatalf("after %d frames: %v", n, err)
		}
		if err := packet.Verify(frame.Bytes); err != nil {
			t.Fatalf("frame %d: %v: %s", n, err, packet.Summary(frame.Bytes))
		}
		source := netip.AddrFrom4([4]byte(frame.Bytes[26:30]))
		if !sources.Contains(source) {
			t.Fatalf("frame %d: %s", n, packet.Summary(frame.Bytes))
		}
		senders[source]++
	}
	if _, err := f.Wait(); err != nil || f.Sent() != count {
		t.Errorf("%d were sent, want %d: %v", f.Sent(), count, err)
	}
	// A SYN and an ACK each.
	if n := len(senders); n < count/2-count/100 || n > count/2 {
		t.Errorf("%d senders", n)
	}
}

// TestFloodEnds: a flood ends by its time, and when it is told to.
func TestFloodEnds(t *testing.T) {
	l := labtest.New(t)
	h, err := l.Host("h")
	if err != nil {
		t.Fatal(err)
	}
	o := flood.Options{
		Device: "lo", MAC: make([]byte, 6), Target: netip.MustParseAddrPort("127.0.0.1:9"),
		Sources: netip.MustParsePrefix("10.0.0.0/8"), Time: 50 * time.Millisecond, Rate: 1000,
	}
	f, err := flood.Start(h, o)
	if err != nil {
		t.Fatal(err)
	}
	took, err := f.Wait()
	if err != nil || took < o.Time || f.Sent() == 0 || f.Sent() > 200 {
		t.Errorf("%d were sent in %s: %v", f.Sent(), took, err)
	}
	o.Time = time.Hour
	if f, err = flood.Start(h, o); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Stop(); err != nil {
		t.Error(err)
	}
}
