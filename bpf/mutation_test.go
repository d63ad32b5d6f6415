package bpf_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"qlbaas/tests/packet"
)

// TestMutations sends what nobody would think of: packets of all tests with bits
// flipped, lengths changed, ends cut off. Whatever it is, it is decided on once, no
// table contradicts another, and what was whole leaves whole.
func TestMutations(t *testing.T) {
	onBothHooks(t, options{}, func(w *world) {
		w.run("bits, lengths, ends", func(w *world) {
			const count = 40_000
			corpus := w.corpus()
			random := w.random()
			before, sent := w.counted(), 0
			for range count {
				in := mutate(random, corpus[random.IntN(len(corpus))])
				out, tried, err := w.through(in)
				w.must(err)
				if !tried {
					continue
				}
				sent++
				if out != nil && packet.Verify(in) == nil && packet.Verify(out) != nil {
					w.Errorf("sums were good, and are not: %v\n%x\n%x", packet.Verify(out), in, out)
				}
			}
			if n := w.counted().since(before).decided(); n != int64(sent) {
				w.Errorf("%d packets were decided on %d times", sent, n)
			}
			w.Logf("%d packets: %s", sent, w.counted().since(before))
		})
	})
}

// corpus is the raw material: hostile packets, and good ones of connections in every
// state.
func (w *world) corpus() (frames [][]byte) {
	for _, cases := range [][]hostile{
		headerCases(), tcpCases(), linkCases(), foreignCases(), sourceCases(), portCases(), strayCases(),
	} {
		for _, c := range cases {
			frames = append(frames, c.frame)
		}
	}
	stamps := packet.Timestamps(1, 2)
	for n := range 60 {
		c := w.quickSYN(client(n))
		if n%3 > 0 {
			c = c.finish()
		}
		for _, s := range []segment{
			seg(packet.SYN, clientISN, 0).options(packet.MSS(1460), packet.SACKPermitted(), stamps),
			seg(packet.ACK, c.cseq, c.mseq).options(packet.NOP(), packet.NOP(), stamps).with(40),
			seg(packet.ACK, c.cseq, c.mseq).options(packet.NOPs(30), stamps),
			seg(packet.FIN|packet.ACK, c.cseq, c.mseq),
			seg(packet.RST, c.cseq, 0),
		} {
			up, _ := c.up(s)
			s.tcp.Seq, s.tcp.Ack = s.tcp.Ack, s.tcp.Seq
			down, _ := c.down(s)
			frames = append(frames, up, down)
		}
	}
	return frames
}

// mutate returns a changed copy of a frame.
func mutate(r *rand.Rand, frame []byte) []byte {
	out := slices.Clone(frame)
	for range 1 + r.IntN(3) {
		head := min(len(out), 80)
		switch r.IntN(7) {
		case 0, 1:
			out[r.IntN(head)] ^= 1 << r.IntN(8)
		case 2:
			out[r.IntN(head)] = byte(r.Uint32())
		case 3: // a length, a number, or both ends of one
			binary.BigEndian.PutUint16(out[r.IntN(head-1):], []uint16{0, 1, 0xffff, 0x8000, uint16(len(out)), uint16(r.Uint32())}[r.IntN(6)])
		case 4:
			out = out[:max(14, r.IntN(len(out)))]
		case 5:
			out = append(out, make([]byte, r.IntN(64))...)
		case 6: // header lengths
			if len(out) > 46 {
				out[14] = out[14]&0xf0 | byte(r.IntN(16))
				out[46] = out[46]&0x0f | byte(r.IntN(16))<<4
			}
		}
	}
	return out
}

// through sends a frame through all of the hook, and returns what leaves, if it does.
// Frames that BPF_PROG_TEST_RUN refuses are not tried.
func (w *world) through(in []byte) (out []byte, tried bool, err error) {
	code, out, err := w.try(in)
	if w.hook == xdpHook && err == nil && code == xdpPass {
		tc := *w
		tc.hook = tcHook
		code, out, err = tc.try(in)
		if errors.Is(err, unix.EINVAL) { // too short for tc, and XDP has not counted it
			return nil, false, nil
		}
	}
	switch {
	case errors.Is(err, unix.EINVAL) && len(in) < 54: // less than a header, as it sees it
		return nil, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("%s: %w", packet.Summary(in), err)
	case code == tcRedirect || code == xdpTX:
		return out, true, nil
	case code == tcUnspec || code == tcShot || code == xdpDrop:
		return nil, true, nil
	}
	return nil, false, fmt.Errorf("%s: code %d", packet.Summary(in), int32(code))
}
