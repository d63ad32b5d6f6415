package hostile

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"qlbaas/tests/lab"
	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
)

// station is a host on the bridge without a stack of its own: it sends what it is told
// to, keeps what it gets, and answers nothing but ARP.
type station struct {
	host    *lab.Host
	mac     net.HardwareAddr
	address netip.Addr
	socket  *afpacket.Socket
	ring    *afpacket.Ring

	mu sync.Mutex
	// from is whose frames it keeps; others are the network's own affairs.
	from   []string
	frames []afpacket.Frame
	more   chan struct{} // one is there when frames have come
}

func newStation(t *testing.T, host *lab.Host, address netip.Addr) *station {
	t.Helper()
	s := &station{host: host, address: address, more: make(chan struct{}, 1)}
	var err error
	if s.mac, err = host.MAC(lab.Uplink); err != nil {
		t.Fatal(err)
	}
	err = host.Do(func() (err error) {
		if s.socket, err = afpacket.Open(lab.Uplink, afpacket.Options{VirtioHeader: true}); err != nil {
			return err
		}
		s.ring, err = afpacket.OpenRing(lab.Uplink)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.listen(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := errors.Join(s.socket.Close(), s.ring.Close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *station) listen(ctx context.Context) {
	for {
		f, err := s.socket.Receive(ctx)
		if err != nil {
			return
		}
		b := f.Bytes
		switch {
		case len(b) < 14:
		case binary.BigEndian.Uint16(b[12:]) == packet.TypeARP && s.asked(b):
			// An ARP that cannot be answered shows as a packet that never comes.
			_ = s.socket.Send(s.arp(arpReply, s.address, b[6:12], netip.AddrFrom4([4]byte(b[28:32]))))
		default:
			s.keep(f)
		}
	}
}

// asked tells whether an ARP frame asks for the station's address.
func (s *station) asked(b []byte) bool {
	return len(b) >= 42 && binary.BigEndian.Uint16(b[20:]) == arpRequest && netip.AddrFrom4([4]byte(b[38:42])) == s.address
}

// keeps says whose frames are to be kept.
func (s *station) keeps(from ...net.HardwareAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, mac := range from {
		s.from = append(s.from, mac.String())
	}
}

func (s *station) keep(f afpacket.Frame) {
	s.mu.Lock()
	claim := len(f.Bytes) > 21 && binary.BigEndian.Uint16(f.Bytes[12:]) == packet.TypeARP && f.Bytes[21] == arpRequest
	wanted := !claim && slices.Contains(s.from, net.HardwareAddr(f.Bytes[6:12]).String())
	if wanted {
		s.frames = append(s.frames, f)
	}
	s.mu.Unlock()
	if !wanted {
		return
	}
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// take returns what has come since the last call.
func (s *station) take() []afpacket.Frame {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.frames
	s.frames = nil
	return all
}

// await waits for a frame, and leaves all of them to take.
func (s *station) await(ctx context.Context, match func([]byte) bool) (afpacket.Frame, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		s.mu.Lock()
		for _, f := range s.frames {
			if match(f.Bytes) {
				s.mu.Unlock()
				return f, nil
			}
		}
		s.mu.Unlock()
		select {
		case <-s.more:
		case <-ctx.Done():
			return afpacket.Frame{}, ctx.Err()
		}
	}
}

const arpRequest, arpReply = 1, 2

// arp is an ARP frame of the station's.
func (s *station) arp(operation uint16, sender netip.Addr, toMAC net.HardwareAddr, to netip.Addr) []byte {
	body := []byte{0, 1, 8, 0, 6, 4}
	body = binary.BigEndian.AppendUint16(body, operation)
	body = append(append(body, s.mac...), sender.AsSlice()...)
	body = append(append(body, toMAC...), to.AsSlice()...)
	return packet.Frame(packet.Ethernet{Dst: toMAC, Src: s.mac, Type: new(uint16(packet.TypeARP))}, packet.Payload(body))
}
