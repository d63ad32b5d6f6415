package afpacket_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
)

func TestMain(m *testing.M) { os.Exit(lab.Enter(m.Run)) }

// wire is a veth pair between two hosts, with a socket at each end.
type wire struct {
	left, right       *lab.Host
	leftMAC, rightMAC net.HardwareAddr
	send, receive     *afpacket.Socket
}

func newWire(t *testing.T, offload lab.Offload) wire {
	t.Helper()
	l := labtest.New(t)
	w := wire{
		leftMAC:  net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 1},
		rightMAC: net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 2},
	}
	var err error
	if w.left, err = l.Host("left"); err != nil {
		t.Fatal(err)
	}
	if w.right, err = l.Host("right"); err != nil {
		t.Fatal(err)
	}
	err = l.Link(
		lab.End{Host: w.left, Device: "eth0", MAC: w.leftMAC, Offload: offload, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
		lab.End{Host: w.right, Device: "eth0", MAC: w.rightMAC, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	w.send = labtest.Socket(t, w.left, "eth0", afpacket.Options{VirtioHeader: true})
	w.receive = labtest.Socket(t, w.right, "eth0", afpacket.Options{VirtioHeader: true})
	return w
}

// frame is a TCP segment that the test will know again by its sequence number.
func (w wire) frame(seq uint32, sum packet.Sum, payload int, tags ...packet.VLAN) []byte {
	return packet.Frame(
		packet.Ethernet{Dst: w.rightMAC, Src: w.leftMAC, VLANs: tags},
		packet.IPv4{Src: netip.MustParseAddr("10.0.0.9"), Dst: netip.MustParseAddr("10.0.0.8"), TTL: 64, DF: true},
		packet.TCP{SrcPort: 1, DstPort: 2, Seq: seq, Flags: packet.ACK, Sum: sum},
		packet.Repeat(payload))
}

func (w wire) await(t *testing.T, seq string) afpacket.Frame {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	f, err := w.receive.Await(ctx, func(b []byte) bool {
		field, err := packet.Find(b, "tcp.seq")
		return err == nil && field.Value == seq
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestPlainAndTagged(t *testing.T) {
	w := newWire(t, lab.Offload{})
	for seq, tags := range map[string][]packet.VLAN{
		"1": nil, "2": {{ID: 100, Priority: 3}}, "3": {{ID: 200, TPID: packet.TypeQinQ}, {ID: 7}},
	} {
		sent := w.frame(uint32(seq[0]-'0'), packet.SumGood, 10, tags...)
		if err := w.send.Send(sent); err != nil {
			t.Fatal(err)
		}
		got := w.await(t, seq)
		if d := packet.Diff(got.Bytes, sent); d != "" {
			t.Errorf("received:\n%s", d)
		}
		if got.Outgoing || got.Partial || got.Header.NeedsChecksum {
			t.Errorf("flags of %+v", got)
		}
	}
}

// TestPartialChecksum leaves the checksum to the device, which computes it or, with
// offload on, passes the debt on.
func TestPartialChecksum(t *testing.T) {
	for name, c := range map[string]struct {
		offload lab.Offload
		tags    []packet.VLAN
		partial bool
	}{
		"offload on":          {lab.Offload{}, nil, true},
		"offload off":         {lab.AllOff(), nil, false},
		"tagged, offload on":  {lab.Offload{}, []packet.VLAN{{ID: 5}}, true},
		"tagged, offload off": {lab.AllOff(), []packet.VLAN{{ID: 5}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, c.offload)
			start := uint16(34 + 4*len(c.tags))
			h := afpacket.Header{NeedsChecksum: true, ChecksumStart: start, ChecksumOffset: 16}
			if err := w.send.SendWith(h, w.frame(7, packet.SumPartial, 11, c.tags...)); err != nil {
				t.Fatal(err)
			}
			got := w.await(t, "7")
			if got.Partial != c.partial || got.Header.NeedsChecksum != c.partial {
				t.Fatalf("partial %v, header %+v; want %v", got.Partial, got.Header, c.partial)
			}
			whole := got.Bytes
			if c.partial {
				var err error
				whole, err = packet.Complete(whole, int(got.Header.ChecksumStart), int(got.Header.ChecksumOffset))
				if err != nil {
					t.Fatal(err)
				}
			}
			if d := packet.Diff(whole, w.frame(7, packet.SumGood, 11, c.tags...)); d != "" {
				t.Errorf("received:\n%s", d)
			}
		})
	}
}

// TestSuperPacket sends more than a frame at once: whole with offload, cut without.
func TestSuperPacket(t *testing.T) {
	const payload, segment = 4000, 1400
	h := afpacket.Header{
		NeedsChecksum: true, ChecksumStart: 34, ChecksumOffset: 16,
		GSO: afpacket.GSOTCPv4, HeaderLength: 54, SegmentSize: segment,
	}
	t.Run("whole", func(t *testing.T) {
		w := newWire(t, lab.Offload{})
		if err := w.send.SendWith(h, w.frame(9, packet.SumPartial, payload)); err != nil {
			t.Fatal(err)
		}
		got := w.await(t, "9")
		if got.Header.GSO != afpacket.GSOTCPv4 || got.Header.SegmentSize != segment {
			t.Errorf("header %+v", got.Header)
		}
		if d := packet.Diff(got.Bytes, w.frame(9, packet.SumPartial, payload)); d != "" {
			t.Errorf("received:\n%s", d)
		}
	})
	t.Run("cut", func(t *testing.T) {
		w := newWire(t, lab.AllOff())
		if err := w.send.SendWith(h, w.frame(9, packet.SumPartial, payload)); err != nil {
			t.Fatal(err)
		}
		for i, want := range []struct {
			seq  string
			size int
		}{{"9", segment}, {"1409", segment}, {"2809", payload - 2*segment}} {
			got := w.await(t, want.seq)
			if got.Header.GSO != afpacket.GSONone || len(got.Bytes) != 54+want.size {
				t.Errorf("segment %d: %d bytes, header %+v", i, len(got.Bytes), got.Header)
			}
			if err := packet.Verify(got.Bytes); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestOutgoing sees both directions, and only the incoming one without the option.
func TestOutgoing(t *testing.T) {
	w := newWire(t, lab.Offload{})
	both := labtest.Socket(t, w.left, "eth0", afpacket.Options{Outgoing: true})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if out, err := w.left.Run(ctx, "ping", "-c1", "-W5", "10.0.0.2"); err != nil {
		t.Fatal(out, err)
	}
	for _, outgoing := range []bool{true, false} {
		kind := map[bool]string{true: "8", false: "0"}[outgoing]
		f, err := both.Await(ctx, func(b []byte) bool {
			field, err := packet.Find(b, "icmp.type")
			return err == nil && field.Value == kind
		})
		if err != nil || f.Outgoing != outgoing {
			t.Errorf("ping of type %s: %+v, %v", kind, f, err)
		}
	}
}

func TestReceiveEndsWithItsContext(t *testing.T) {
	w := newWire(t, lab.Offload{})
	for range 3 { // one receiver's end must not be the next one's
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := w.receive.Await(ctx, func([]byte) bool { return false })
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	if err := w.send.Send(w.frame(3, packet.SumGood, 0)); err != nil {
		t.Fatal(err)
	}
	w.await(t, "3")
}

func TestWhatCannotBeSent(t *testing.T) {
	w := newWire(t, lab.Offload{})
	plain := labtest.Socket(t, w.left, "eth0", afpacket.Options{})
	if err := plain.SendWith(afpacket.Header{NeedsChecksum: true}, w.frame(1, packet.SumGood, 0)); err == nil {
		t.Error("a header was sent without room for it")
	}
	if err := plain.Send(w.frame(1, packet.SumGood, 2000)); err == nil {
		t.Error("more than the MTU was sent")
	}
	err := w.left.Do(func() error {
		_, err := afpacket.Open("eth9", afpacket.Options{})
		return err
	})
	if err == nil {
		t.Error("a device that does not exist was opened")
	}
}
