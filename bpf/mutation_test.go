package bpf_test

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"qlbaas/tests/packet"
	"qlbaas/tests/packet/mutate"
	"qlbaas/tests/rows"
)

// As many mutations as all programs and protocols meet together, and after how many a
// world gets new connections: what was sent closes the ones that there are.
const (
	mutations      = 1_000_000
	mutationsRound = 12_500
)

// TestMutations sends what nobody would think of: packets of all tests with bits
// flipped, lengths changed, ends cut off. Whatever it is, it is decided on once, no
// table contradicts another, what was whole leaves whole, what was wrong stays wrong,
// and connections that are there do not feel it.
func TestMutations(t *testing.T) {
	rows.Proves(t, 115)
	kernel := openKernelLog(t)
	for _, o := range []options{{}, {ipv6: true}} {
		t.Run(map[bool]string{false: "IPv4", true: "IPv6"}[o.ipv6], func(t *testing.T) {
			onHooks(t, o, func(w *world) {
				w.run("TCP", func(w *world) { w.mutations((*world).corpusTCP) })
				w.run("UDP", func(w *world) {
					w.listenUDP()
					w.mutations((*world).corpusUDP)
				})
			})
		})
	}
	warnings := kernel.warnings(t)
	for _, line := range warnings {
		t.Errorf("the kernel says: %s", line)
	}
	report(t, map[string]any{"kernel_warnings": len(warnings)})
}

// corpus is the raw material of mutations.
type corpus struct{ flows, errors, hostile [][]byte }

// one is a frame of it: most are of connections, so that enough get beyond the parser.
func (c corpus) one(r *rand.Rand) []byte {
	frames := c.flows
	switch n := r.IntN(100); {
	case n < 10:
		frames = c.hostile
	case n < 25:
		frames = c.errors
	}
	return frames[r.IntN(len(frames))]
}

// fuzz is a run of mutations through one world.
type fuzz struct {
	*world
	random           *rand.Rand
	sent, redirected int64
	left, ended      int64 // to the stack, in the program
	failures         int
}

func (w *world) mutations(material func(w *world, first int) corpus) {
	f := &fuzz{world: w, random: w.random()}
	controls := w.controls()
	before := w.counted()
	var building delta // what making the material counts
	for first := 0; f.sent < mutations/8; first += corpusFlows {
		built := w.counted()
		c := material(w, first)
		building = sum(building, w.counted().since(built))
		for end := f.sent + mutationsRound; f.sent < end; {
			f.send(mutate.Frame(f.random, c.one(f.random)))
		}
	}
	f.conserved(sum(w.counted().since(before), building.negative()))
	for _, c := range controls {
		c.still()
	}
}

// control is a connection that no mutation is about.
type control struct {
	conn
	datagrams bool
}

// controls are a connection with each member.
func (w *world) controls() (all []control) {
	w.Helper()
	for slot := range 3 {
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, 119, byte(90 + slot)}), 61337)
		c := control{datagrams: w.gen.VIP.Protocol == packet.ProtoUDP}
		if c.datagrams {
			c.conn = w.datagramFlow(from, slot, firstPort)
		} else {
			c.conn = w.open(from, slot, firstPort)
		}
		c.still()
		all = append(all, c)
	}
	return all
}

// still shows that it works.
func (c *control) still() {
	c.w.Helper()
	if c.datagrams {
		c.sends("datagram", datagram(20))
		c.gets("datagram", datagram(20))
		return
	}
	c.works()
}

// fail notes a failure; the first ones are told.
func (f *fuzz) fail(format string, args ...any) {
	f.Helper()
	f.failures++
	if f.failures <= 5 {
		f.Errorf(format, args...)
	}
}

func (f *fuzz) send(in []byte) {
	f.Helper()
	code, out, tried, err := f.through(in)
	if err != nil {
		f.fail("%v", err)
	}
	if !tried {
		return
	}
	f.sent++
	switch code {
	case tcUnspec:
		f.left++
	case tcRedirect:
		f.redirected++
		f.judge(in, out)
	default:
		f.ended++
	}
}

// judge looks at a packet that has left.
func (f *fuzz) judge(in, out []byte) {
	f.Helper()
	wasGood, isGood := packet.Verify(in), packet.Verify(out)
	answer := isAnswer(in, out)
	switch {
	case wasGood == nil && isGood != nil:
		f.fail("sums were good, and are not: %v\n%x\n%x", isGood, in, out)
	case wasGood != nil && isGood == nil && !answer:
		f.fail("sums were wrong, and are made good: %v\n%x\n%x", wasGood, in, out)
	case answer && isGood != nil && !strings.HasPrefix(isGood.Error(), "quoted packet"): // which is as it came
		f.fail("an answer with wrong sums: %v\n%x\n%x", isGood, in, out)
	case malformed(isGood):
		f.fail("headers contradict each other: %v\n%x\n%x", isGood, in, out)
	case !answer && len(in) != len(out):
		f.fail("%d bytes became %d\n%x\n%x", len(in), len(out), in, out)
	}
}

// isAnswer tells a packet of our own from one that goes on, though that may go where it
// came from: to a member that asked the VIP and got itself.
func isAnswer(in, out []byte) bool {
	from, to := addressesOf(in)
	backFrom, backTo := addressesOf(out)
	if from != backTo || to != backFrom {
		return false
	}
	asked, said := in[transportOf(in):], out[transportOf(out):]
	sameKind := in[ethernetLength+9] == out[ethernetLength+9]
	if in[ethernetLength]>>4 == 6 {
		sameKind = in[ethernetLength+6] == out[ethernetLength+6]
	}
	return !sameKind || bytes.Equal(asked[:2], said[2:4]) && bytes.Equal(asked[2:4], said[:2])
}

// malformed tells whether more than a sum is wrong about a packet itself; what an ICMP
// error quotes may be cut anywhere.
func malformed(verified error) bool {
	if verified == nil {
		return false
	}
	own, _, _ := strings.Cut(verified.Error(), "quoted packet")
	for line := range strings.Lines(own) {
		if !strings.Contains(line, "checksum") {
			return true
		}
	}
	return false
}

// conserved compares what was sent with what was counted.
func (f *fuzz) conserved(d delta) {
	f.Helper()
	equal := func(what string, got, want int64) {
		f.Helper()
		if got != want {
			f.fail("%s: %d counted, %d seen", what, got, want)
		}
	}
	var drops, reached int64
	reasons := map[string]int64{}
	for name, n := range d {
		reason, dropped := strings.CutPrefix(name, "drops.")
		if !dropped {
			continue
		}
		reasons[reason] = n
		drops += n
		if !parserReasons[reason] {
			reached += n
		}
	}
	equal("decided on", d.decided(), f.sent)
	equal("forwarded and answered", d["verdicts.forwarded"]+d["verdicts.answered"], f.redirected)
	equal("passed", d["verdicts.passed"], f.left)
	equal("dropped", drops-d["verdicts.answered"], f.ended)
	reached += d["verdicts.forwarded"]
	if reached*10 < f.sent*3 {
		f.fail("only %d of %d packets came as far as the flows", reached, f.sent)
	}
	reasons["forwarded"], reasons["passed"], reasons["answered"] = d["verdicts.forwarded"], d["verdicts.passed"], d["verdicts.answered"]
	report(f, map[string]any{
		"tries": f.sent, "failures": f.failures, "reached_flows": reached, "reasons": reasons,
	})
}

// parserReasons are those for which a packet ends before the flows are asked. A passed
// one may have come further, and is not taken to have.
var parserReasons = map[string]bool{
	"trunc_l3": true, "trunc_l4": true, "l2_bcast": true, "ip_ver": true, "ip_ihl": true, "ip_len": true,
	"frag": true, "tcp_doff": true, "tcp_flags": true, "udp_len": true, "port0": true, "v6_ext": true,
	"icmp_type": true, "icmp_inner": true, "icmp_csum": true, "icmp_mtu": true, "internal": true,
}

// through sends a frame through all of the hook, and returns what tc would say, and what
// leaves. Frames that BPF_PROG_TEST_RUN refuses are not tried.
func (w *world) through(in []byte) (code uint32, out []byte, tried bool, err error) {
	code, out, err = w.try(in)
	if w.hook == xdpHook && err == nil {
		switch code {
		case xdpDrop:
			return tcShot, out, true, nil
		case xdpTX:
			return tcRedirect, out, true, nil
		case xdpPass:
			tc := *w
			tc.hook = tcHook
			code, out, err = tc.try(in)
		default:
			return 0, nil, true, fmt.Errorf("%s: XDP code %d", packet.Summary(in), int32(code))
		}
	}
	switch {
	case errors.Is(err, unix.EINVAL) && len(in) < 54: // less than a header, as it sees it
		return 0, nil, false, nil
	case err != nil:
		return 0, nil, false, fmt.Errorf("%s: %w", packet.Summary(in), err)
	case code == tcRedirect || code == tcUnspec || code == tcShot:
		return code, out, true, nil
	}
	return code, nil, true, fmt.Errorf("%s: code %d", packet.Summary(in), int32(code))
}

// kernelLog reads what the kernel says from now on.
type kernelLog struct{ file *os.File }

func openKernelLog(t *testing.T) kernelLog {
	t.Helper()
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	l := kernelLog{os.NewFile(uintptr(fd), "/dev/kmsg")}
	t.Cleanup(func() { l.file.Close() })
	if _, err := unix.Seek(fd, 0, unix.SEEK_END); err != nil {
		t.Fatal(err)
	}
	return l
}

// warnings are the lines of that level and above since. Others may be about devices of
// tests that run at the same time.
func (l kernelLog) warnings(t *testing.T) (lines []string) {
	t.Helper()
	buffer := make([]byte, 8192)
	for {
		n, err := unix.Read(int(l.file.Fd()), buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return lines
		case errors.Is(err, unix.EPIPE): // some were overwritten before we came
			continue
		case err != nil:
			t.Fatal(err)
		}
		priority, _, _ := strings.Cut(string(buffer[:n]), ",")
		level, err := strconv.Atoi(priority)
		if err != nil {
			t.Fatalf("kernel log: %q", buffer[:n])
		}
		const warning = 4
		if level&7 <= warning {
			lines = append(lines, strings.TrimSpace(string(buffer[:n])))
		}
	}
}

// seedVar is what chance starts from, if it is set.
const seedVar = "QLBAAS_SEED"

// random is a source whose seed is logged. Every test has one of its own.
func (w *world) random() *rand.Rand {
	w.Helper()
	seed := rand.Uint64()
	if s := os.Getenv(seedVar); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 0, 64)
		w.must(err)
	}
	w.Logf("random seed: %s=%#x", seedVar, seed)
	name := fnv.New64a()
	fmt.Fprint(name, w.Name())
	return rand.New(rand.NewPCG(seed, name.Sum64()))
}
