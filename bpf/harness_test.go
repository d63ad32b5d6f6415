package bpf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"

	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// action is what became of a packet, in words that both hooks share.
type action string

const (
	forwarded action = "forwarded"
	passed    action = "passed"
	dropped   action = "dropped"
	answered  action = "answered" // dropped, and sent back as a packet of our own
)

// What the programs return (linux/pkt_cls.h, linux/bpf.h).
const (
	tcUnspec   = 0xffffffff
	tcShot     = 2
	tcRedirect = 7

	xdpDrop     = 1
	xdpPass     = 2
	xdpTX       = 3
	xdpRedirect = 4
)

// skb is struct __sk_buff, of which BPF_PROG_TEST_RUN accepts a few fields.
type skb struct {
	_       [10]uint32
	Ifindex uint32 // the device that the packet came in by
	_       [30]uint32
	GSOSegs uint32
	_       uint64
	GSOSize uint32
	_       [3]uint32
}

// xdpContext is struct xdp_md.
type xdpContext struct {
	Data, DataEnd, DataMeta         uint32
	IngressIfindex, RxQueue, Egress uint32
}

// gso says that a frame is a super-packet: so many segments of so many bytes.
type gso struct{ segments, size uint32 }

// outcome is what one packet came to.
type outcome struct {
	action action
	frame  []byte
	by     hook // the program that had the last word
}

// send runs a frame through the hook, as if it had come in by the device.
func (w *world) send(frame []byte) outcome {
	w.Helper()
	if w.hook == tcHook {
		return w.sendTC(frame, gso{})
	}
	before := w.counted()
	code, out := w.test(w.fast, frame, w.context(len(frame)))
	switch w.verdictOf(code) {
	case dropped:
		return outcome{dropped, out, w.hook}
	case forwarded:
		return outcome{forwarded, out, w.hook}
	}
	if !bytes.Equal(out, frame) {
		w.Errorf("%s passed a packet on that it had changed:\n%s", w.hook, packet.Diff(out, frame))
	}
	if d := w.counted().since(before); len(d) > 0 {
		w.Errorf("%s counted a packet that it passed on: %s", w.hook, d)
	}
	return w.sendTC(frame, gso{})
}

// context is what a frame comes with to the hook's own program.
func (w *world) context(length int) any {
	if w.hook == xdpHook {
		return &xdpContext{DataEnd: uint32(length), IngressIfindex: insideIndex}
	}
	return &skb{Ifindex: insideIndex}
}

// verdictOf reads what the fast lane returns.
func (w *world) verdictOf(code uint32) action {
	w.Helper()
	switch {
	case w.hook == xdpHook && code == xdpPass, w.hook == tapHook && code == tcUnspec:
		return passed
	case w.hook == xdpHook && code == xdpDrop, w.hook == tapHook && code == tcShot:
		return dropped
	case w.hook == xdpHook && (code == xdpTX || code == xdpRedirect), w.hook == tapHook && code == tcRedirect:
		return forwarded
	}
	w.Fatalf("%s_lb returned %d", w.hook, int32(code))
	return ""
}

func (w *world) sendTC(frame []byte, g gso) outcome {
	w.Helper()
	answers := w.counted()["verdicts.answered"]
	code, out := w.test(w.tc, frame, &skb{Ifindex: insideIndex, GSOSegs: g.segments, GSOSize: g.size})
	switch code {
	case tcUnspec:
		return outcome{passed, out, tcHook}
	case tcShot:
		return outcome{dropped, out, tcHook}
	case tcRedirect:
		if w.counted()["verdicts.answered"] != answers {
			return outcome{answered, out, tcHook}
		}
		return outcome{forwarded, out, tcHook}
	}
	w.Fatalf("tc_lb returned %d", int32(code))
	return outcome{}
}

// growth is what an answer may be longer than its question.
const growth = 64

// test is BPF_PROG_TEST_RUN. A program that grows a packet has room for it.
func (w *world) test(program *ebpf.Program, frame []byte, context any) (uint32, []byte) {
	w.Helper()
	o := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+growth), Context: context}
	code, err := program.Run(&o)
	if err != nil {
		w.Fatalf("run %s on %s: %v", w.hook, packet.Summary(frame), err)
	}
	return code, o.DataOut
}

// try runs the hook's own program on a frame, without any checks: for tests of many
// packets, and of several threads. What the short cut leaves to tc is tc's.
func (w *world) try(in []byte) (code uint32, out []byte, err error) {
	if w.hook == tapHook {
		code, out, err = w.tryOn(w.fast, in)
		if err != nil || code != tcUnspec {
			return code, out, err
		}
	}
	if w.hook == xdpHook {
		return w.tryOn(w.fast, in)
	}
	return w.tryOn(w.tc, in)
}

func (w *world) tryOn(program *ebpf.Program, in []byte) (code uint32, out []byte, err error) {
	o := ebpf.RunOptions{Data: in, DataOut: make([]byte, len(in)+growth), Context: w.context(len(in))}
	code, err = program.Run(&o)
	return code, o.DataOut, err
}

// only is try for a frame that is forwarded.
func (w *world) only(in []byte) []byte {
	w.Helper()
	code, out, err := w.try(in)
	w.must(err)
	if code != tcRedirect && code != xdpTX {
		w.Fatalf("%s: code %d", packet.Summary(in), int32(code))
	}
	return out
}

// want is all that a packet is to come to.
type want struct {
	action action
	frame  []byte // what leaves; of a passed packet nothing may change
	delta  delta  // and nothing else
	byTC   bool   // XDP leaves it to tc, although it is forwarded or dropped
	seen   bool   // it refreshes its flow, although it ends here
}

func forwards(frame []byte, changes ...delta) want {
	return want{action: forwarded, frame: frame, delta: sum(delta{"verdicts.forwarded": 1}, changes...)}
}

func passes() want { return want{action: passed, delta: delta{"verdicts.passed": 1}} }

func drops(reason string, changes ...delta) want {
	return want{action: dropped, delta: sum(delta{"drops." + reason: 1}, changes...)}
}

func answers(reason string, frame []byte, changes ...delta) want {
	counts := delta{"drops." + reason: 1, "verdicts.answered": 1}
	return want{action: answered, frame: frame, delta: sum(counts, changes...)}
}

// refreshing is a packet that its flow takes note of before it ends.
func (o want) refreshing() want {
	o.seen = true
	return o
}

// late is a drop that XDP leaves to tc.
func (o want) late() want {
	o.byTC = true
	return o
}

// unresolved is a packet that only the kernel can send, after it has asked who the
// next hop is: its Ethernet addresses are not written yet.
func (o want) unresolved(in []byte) want {
	o.frame = append(bytes.Clone(in[:12]), o.frame[12:]...)
	o.byTC = true
	return o
}

// expect sends a frame and checks everything about it: what became of it, its bytes
// and checksums, the change of every table, level and counter, and that it was
// counted once.
func (w *world) expect(what string, in []byte, o want) outcome {
	w.Helper()
	before := w.snapshot()
	got := w.send(in)
	return w.judge(what, in, o, got, before)
}

// expectGSO is expect for a super-packet, which only tc can meet.
func (w *world) expectGSO(what string, in []byte, g gso, o want) outcome {
	w.Helper()
	before := w.snapshot()
	got := w.sendTC(in, g)
	o.byTC = true
	return w.judge(what, in, o, got, before)
}

func (w *world) judge(what string, in []byte, o want, got outcome, before snapshot) outcome {
	w.Helper()
	after := w.snapshot()
	var wrong strings.Builder
	if got.action != o.action {
		fmt.Fprintf(&wrong, "%s, want %s\n", got.action, o.action)
	}
	if got.by == tapHook {
		o.delta = sum(o.delta, delta{"events.outside": 1})
	} else if by := w.decider(o); got.by != by && got.action == o.action && w.hook != tapHook {
		fmt.Fprintf(&wrong, "%s by %s, want by %s\n", got.action, got.by, by)
	}
	wrong.WriteString(judgeFrame(in, o, got))
	if d := after.counts.since(before.counts); !d.equal(o.delta) {
		fmt.Fprintf(&wrong, "changed %s\n   want %s\n", d, o.delta)
	} else if n := d.decided(); n != 1 {
		fmt.Fprintf(&wrong, "one packet was decided on %d times: %s\n", n, d)
	}
	if got.action != forwarded && !o.seen && len(o.delta) == len(o.delta.verdict()) {
		wrong.WriteString(after.touched(before))
	}
	wrong.WriteString(after.broken())
	if wrong.Len() > 0 {
		w.Errorf("%s: %s\n%s", what, packet.Summary(in), wrong.String())
	}
	return got
}

// decider is the program that is to have the last word.
func (w *world) decider(o want) hook {
	if o.byTC || o.action == passed || o.action == answered {
		return tcHook
	}
	return w.hook
}

func judgeFrame(in []byte, o want, got outcome) string {
	wanted := o.frame
	switch got.action {
	case dropped:
		return ""
	case passed:
		wanted = in
	}
	if d := packet.Diff(got.frame, wanted); d != "" {
		return d
	}
	return ""
}

// sums checks a frame's checksums by computing them anew.
func (w *world) sums(what string, frame []byte) {
	w.Helper()
	if err := packet.Verify(frame); err != nil {
		w.Errorf("%s: %v", what, err)
	}
}

// chosen is where a forwarded SYN went: slot and source port.
func (w *world) chosen(out []byte) (slot int, natPort uint16) {
	w.Helper()
	slot, err := w.whose(out)
	w.must(err)
	return slot, binary.BigEndian.Uint16(out[transportOf(out):])
}

// whose member a frame goes to.
func (w *world) whose(out []byte) (slot int, err error) {
	to, _ := addressesOf(out)
	for _, m := range w.gen.Members {
		if m.Address.Addr() == to && binary.BigEndian.Uint16(out[transportOf(out)+2:]) == m.Address.Port() {
			return int(m.Slot), nil
		}
	}
	return 0, fmt.Errorf("went to no member: %s", packet.Summary(out))
}

// sweepAll runs the expiry once over all ports of a slot.
func (w *world) sweepAll(slot int, s maps.Sweep) maps.Swept {
	w.Helper()
	s.Slot, s.Words = uint16(slot), maps.NATWords
	swept, err := s.Run(w.sweep)
	w.must(err)
	return swept
}
