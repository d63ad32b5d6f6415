package hostile

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
)

// shot is one frame that a station sends.
type shot struct {
	from   *station
	frame  []byte
	header afpacket.Header
	// linear is how many of its bytes the kernel shall hold in one piece; 0 means
	// that it does not matter.
	linear uint16
}

func (s shot) fire() error {
	if s.linear > 0 {
		return s.from.ring.Send(s.linear, s.frame)
	}
	return s.from.socket.SendWith(s.header, s.frame)
}

// seen is a frame that has to arrive: its bytes, or who can tell.
type seen struct {
	what  string
	frame []byte
	is    func([]byte) bool
	// wrong: its sums are as wrong as they were, and that is right.
	wrong bool
}

func exactly(frame []byte) seen { return seen{what: packet.Summary(frame), frame: frame} }

func (e seen) matches(b []byte) bool {
	if e.is != nil {
		return e.is(b)
	}
	return bytes.Equal(e.frame, b)
}

// outcome is all that some shots come to.
type outcome struct {
	drops               map[string]int
	answered, forwarded int
	passed              int // at least: neighbours ask and answer too
	atMember, atClient  []seen
	handshakes, flows   int
	// limited is what the client may get besides, at most so often.
	limited seen
	atMost  int
	within  time.Duration // for all of it; 0 means 5 s
}

// row sends frames to a balancer and holds everything that happens against what has
// to: every frame is decided on once, and for the reason wanted; no frame arrives that
// must not, or with a wrong sum; the tables grow by what is said; nobody gets more than
// he has sent; the connections beside live; the agent has nothing to say.
func (b *balancer) row(name string, shots []shot, want outcome) {
	b.t.Helper()
	b.client.take()
	b.member.take()
	before, err := b.settled(func(state) error { return nil }, 0)
	if err != nil {
		b.t.Fatalf("%s: before: %v", name, err)
	}
	for _, s := range shots {
		if err := s.fire(); err != nil {
			b.t.Fatalf("%s: %v", name, err)
		}
	}
	expected := want.forwarded + want.passed
	for _, n := range want.drops {
		expected += n
	}
	after, err := b.settled(func(now state) error {
		if n := int(now.decided() - before.decided()); n < expected {
			return fmt.Errorf("%d packets are decided on, want %d", n, expected)
		}
		return nil
	}, want.within)
	if err != nil {
		b.t.Errorf("%s: %v", name, err)
	}
	lost := false
	got := map[*station][]afpacket.Frame{}
	for station, all := range map[*station][]seen{b.member: want.atMember, b.client: want.atClient} {
		frames, err := b.arrivals(station, all, want)
		if err != nil {
			b.t.Errorf("%s: at %s: %v", name, station.host.Name(), err)
			lost = true
		}
		got[station] = frames
	}
	b.compare(name, before, after, want)
	if lost {
		b.t.FailNow() // what follows would wait as long, for as little
	}
	if want.forwarded == 0 {
		b.thrifty(name, shots, got)
	}
	b.alive()
	if now := uint64(len(b.log())); now != before.logSize {
		b.t.Errorf("%s: the agent has said:\n%s", name, b.log()[before.logSize:])
	}
}

// settled waits until every packet that has arrived is decided on, and enough holds; a
// bound of 0 means 5 s.
func (b *balancer) settled(enough func(state) error, bound time.Duration) (now state, err error) {
	if bound == 0 {
		bound = 5 * time.Second
	}
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(bound); time.Now().Before(end); <-ticker.C {
		now = b.state()
		if open := int64(now.arrived-now.decided()) - b.undecided; open != 0 {
			err = fmt.Errorf("%d packets have arrived and are not decided on", open)
			continue
		}
		if err = enough(now); err == nil {
			return now, nil
		}
	}
	return now, err
}

// calm learns how many packets came before there was a program to decide on them. That
// is what is open when nothing happens for a while.
func (b *balancer) calm() {
	b.t.Helper()
	const enough = 5
	same := 0
	b.until(func() error {
		s := b.state()
		if open := int64(s.arrived - s.decided()); open != b.undecided || same == 0 {
			b.undecided, same = open, 0
		}
		if same++; same < enough {
			return fmt.Errorf("%d packets are undecided, %d times in a row", b.undecided, same)
		}
		return nil
	})
}

// compare holds counters and tables against what has to be.
func (b *balancer) compare(name string, before, after state, want outcome) {
	b.t.Helper()
	wanted := map[string]int{"forwarded": want.forwarded, "answered": want.answered}
	for reason, n := range want.drops {
		wanted[reason] = n
	}
	for what, n := range after.counts {
		is := int(n - before.counts[what])
		if what == "forwarded" {
			is -= int(after.held - before.held)
		}
		switch {
		case what == "passed" && is < want.passed:
			b.t.Errorf("%s: %d packets passed, want %d", name, is, want.passed)
		case what != "passed" && is != wanted[what]:
			b.t.Errorf("%s: %s by %d, want %d", name, what, is, wanted[what])
		}
	}
	if n := int(after.handshakes - before.handshakes); n != want.handshakes {
		b.t.Errorf("%s: %d handshakes more, want %d", name, n, want.handshakes)
	}
	if n := int(after.flows - before.flows); n != want.flows {
		b.t.Errorf("%s: %d flows more, want %d", name, n, want.flows)
	}
}

// arrivals wants these frames at a station and no other. What the beat's next packet
// does not overtake will not come any more.
func (b *balancer) arrivals(s *station, want []seen, o outcome) (got []afpacket.Frame, err error) {
	for _, e := range want {
		if _, err := s.await(b.t.Context(), e.matches); err != nil {
			return nil, fmt.Errorf("%s does not arrive; but %s", e.what, b.describe(s.take(), e))
		}
	}
	b.pulse(s)
	got = s.take()
	left := append([]seen(nil), want...)
next:
	for _, f := range got {
		if b.isBeat(f.Bytes) {
			continue
		}
		for i, e := range left {
			if e.matches(f.Bytes) {
				left = append(left[:i], left[i+1:]...)
				if err := whole(f, e.wrong); err != nil {
					return nil, err
				}
				continue next
			}
		}
		if s == b.client && o.atMost > 0 && o.limited.matches(f.Bytes) {
			o.atMost--
			continue
		}
		return nil, fmt.Errorf("nobody has asked for %s", packet.Summary(f.Bytes))
	}
	if len(left) > 0 {
		return nil, fmt.Errorf("%s came once too seldom", left[0].what)
	}
	return got, nil
}

// whole wants a frame finished, and its sums right, or wrong.
func whole(f afpacket.Frame, wrong bool) error {
	if f.Partial || f.Header.NeedsChecksum || f.Header.GSO != afpacket.GSONone {
		return fmt.Errorf("arrived unfinished (%+v): %s", f.Header, packet.Summary(f.Bytes))
	}
	switch err := packet.Verify(f.Bytes); {
	case err != nil && !wrong:
		return fmt.Errorf("%w: %s", err, packet.Summary(f.Bytes))
	case err == nil && wrong:
		return fmt.Errorf("a wrong sum was made good: %s", packet.Summary(f.Bytes))
	}
	return nil
}

// describe says how frames differ from what was to come.
func (b *balancer) describe(frames []afpacket.Frame, want seen) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d frames:", len(frames))
	for i, f := range frames {
		if i < 5 && !b.isBeat(f.Bytes) {
			fmt.Fprintf(&out, "\n%s", packet.Summary(f.Bytes))
			if want.frame != nil {
				fmt.Fprintf(&out, "\n%s", packet.Diff(f.Bytes, want.frame))
			}
		}
	}
	return out.String()
}

// errorHeader is what an ICMP error has beyond what it quotes.
const errorHeader = 28

// thrifty wants that nobody gets more bytes than he has sent, but for the header of an
// ICMP error for each packet.
func (b *balancer) thrifty(name string, shots []shot, got map[*station][]afpacket.Frame) {
	b.t.Helper()
	sent, answered := 0, 0
	for _, s := range shots {
		sent += len(s.frame) + errorHeader
	}
	for _, frames := range got {
		for _, f := range frames {
			if !b.isBeat(f.Bytes) {
				answered += len(f.Bytes)
			}
		}
	}
	if answered > sent {
		b.t.Errorf("%s: %d bytes were answered with %d", name, sent, answered)
	}
}
