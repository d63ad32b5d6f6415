package bpf_test

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"qlbaas/bpf"
	"qlbaas/maps"
)

// delta is how much counters, levels and tables have changed, by name: drops.<reason>,
// verdicts.<verdict>, events.<event>, flows, active, handshakes, evicted, affinities, and of each
// member m<slot>.ports, .conns, .active, .packets_in and so on. What did not change is
// not in it.
type delta map[string]int64

func sum(first delta, rest ...delta) delta {
	total := delta{}
	for _, d := range append([]delta{first}, rest...) {
		for name, n := range d {
			total[name] += n
		}
	}
	return total
}

// since is what has changed from one state to the next.
func (d delta) since(before delta) delta {
	changed := delta{}
	for name, n := range d {
		if n != before[name] {
			changed[name] = n - before[name]
		}
	}
	for name, n := range before {
		if _, there := d[name]; !there && n != 0 {
			changed[name] = -n
		}
	}
	return changed
}

func (d delta) equal(o delta) bool { return len(d.since(o)) == 0 }

// verdict is the part of the changes that says what became of a packet.
func (d delta) verdict() delta {
	part := delta{}
	for name, n := range d {
		if strings.HasPrefix(name, "drops.") || strings.HasPrefix(name, "verdicts.") {
			part[name] = n
		}
	}
	return part
}

// decided is how often a packet was judged; an answer comes on top of a drop.
func (d delta) decided() int64 {
	n := -d["verdicts.answered"]
	for _, count := range d.verdict() {
		n += count
	}
	return n
}

// String lists the changes by name.
func (d delta) String() string {
	var names []string
	for name, n := range d {
		if n != 0 {
			names = append(names, fmt.Sprintf("%s %+d", name, n))
		}
	}
	slices.Sort(names)
	if names == nil {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// Changes that many packets make.

// opened is a new handshake with the member in the slot.
func opened(slot int) delta {
	return delta{"handshakes": 1, memberName(slot, "ports"): 1, memberName(slot, "conns"): 1}
}

// established is a handshake that has become a flow.
func established(slot int) delta {
	return delta{
		"handshakes": -1, "flows": 1, "active": 1,
		memberName(slot, "active"): 1, memberName(slot, "connections"): 1,
	}
}

// closed is a flow that is over, though it stays in the table.
func closed(slot int) delta {
	return delta{"active": -1, memberName(slot, "active"): -1, memberName(slot, "conns"): -1}
}

// removed is a closed flow that has left the table.
func removed(slot int) delta { return delta{"flows": -1, memberName(slot, "ports"): -1} }

// forgotten is a handshake that has ended without becoming a flow.
func forgotten(slot int) delta { return sum(delta{}, opened(slot)).negative() }

func (d delta) negative() delta {
	turned := delta{}
	for name, n := range d {
		turned[name] = -n
	}
	return turned
}

// toMember and toClient are a frame's packets and bytes on the member's account.
func toMember(slot int, frame []byte) delta { return account(slot, "in", frame) }
func toClient(slot int, frame []byte) delta { return account(slot, "out", frame) }

func account(slot int, way string, frame []byte) delta {
	length := int64(frame[16])<<8 | int64(frame[17]) // as the IP header says
	if frame[ethernetLength]>>4 == 6 {
		length = ipv6Length + (int64(frame[18])<<8 | int64(frame[19]))
	}
	return delta{memberName(slot, "packets_"+way): 1, memberName(slot, "bytes_"+way): length}
}

func memberName(slot int, what string) string { return fmt.Sprintf("m%d.%s", slot, what) }

// portsOf is a source address toward a member, whose ports are told apart.
type portsOf struct{ slot, source int }

// snapshot is all that a pool holds.
type snapshot struct {
	counts     delta
	flows      map[maps.FlowKey]maps.Flow
	handshakes map[maps.FlowKey]maps.HalfOpenEntry
	states     map[portsOf]bpf.Lb4MemberState
	conns      []uint32
	orphans    int // ports that are known to belong to nobody
}

func (w *world) snapshot() snapshot {
	w.Helper()
	s := snapshot{
		counts:     w.counted(),
		flows:      make(map[maps.FlowKey]maps.Flow),
		handshakes: make(map[maps.FlowKey]maps.HalfOpenEntry),
		states:     make(map[portsOf]bpf.Lb4MemberState),
		orphans:    w.orphans,
	}
	for f, err := range w.pool.Flows() {
		w.must(err)
		s.flows[f.Key] = f.Flow
	}
	for h, err := range w.node.HalfOpen(w.number) {
		w.must(err)
		s.handshakes[h.Key] = h
	}
	var err error
	s.conns, err = w.pool.Conns()
	w.must(err)
	for _, slot := range w.pool.Slots() {
		for source := range w.sources {
			s.states[portsOf{int(slot), source}] = w.portsOf(int(slot), source)
		}
	}
	w.addLevels(&s)
	return s
}

func (w *world) addLevels(s *snapshot) {
	w.Helper()
	state, err := w.pool.PoolState()
	w.must(err)
	s.counts["flows"], s.counts["active"] = int64(state.Flows), int64(state.Active)
	pools, err := w.node.Pools()
	w.must(err)
	s.counts["handshakes"] = int64(pools[w.number])
	ring, err := w.node.Ring()
	w.must(err)
	s.counts["evicted"] = int64(ring.Evicted)
	for _, err := range w.pool.Affinities() {
		w.must(err)
		s.counts["affinities"]++
	}
	for at, state := range s.states {
		slot := at.slot
		s.counts[memberName(slot, "ports")] += int64(state.PortsUsed)
		s.counts[memberName(slot, "active")] += int64(int32(state.Active))
		if at.source > 0 {
			continue
		}
		s.counts[memberName(slot, "conns")] = int64(int32(s.conns[slot]))
		c, err := w.pool.MemberCounters(uint16(slot))
		w.must(err)
		for name, n := range map[string]uint64{
			"packets_in": c.PacketsIn, "bytes_in": c.BytesIn,
			"packets_out": c.PacketsOut, "bytes_out": c.BytesOut, "connections": c.Connections,
		} {
			s.counts[memberName(slot, name)] = int64(n)
		}
	}
}

// counted is the counters of verdicts, drops and events.
func (w *world) counted() delta {
	w.Helper()
	counts := delta{}
	drops, err := w.pool.Drops()
	w.must(err)
	for reason, n := range drops {
		counts["drops."+reason] = int64(n)
	}
	verdicts, err := w.pool.Verdicts()
	w.must(err)
	for verdict, n := range verdicts {
		counts["verdicts."+verdict] = int64(n)
	}
	events, err := w.pool.Events()
	w.must(err)
	for event, n := range events {
		counts["events."+event] = int64(n)
	}
	return counts
}

// checkInvariants is what must hold whenever no packet is on its way.
func (w *world) checkInvariants() {
	w.Helper()
	if broken := w.snapshot().broken(); broken != "" {
		w.Errorf("the tables contradict each other:\n%s", broken)
	}
}

// broken says which tables and levels contradict each other.
func (s snapshot) broken() string {
	var out strings.Builder
	report := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	held := make(map[portsOf]map[uint16]bool) // the ports that entries use
	open := make(map[int]int)                 // by slot, connections that are not over
	active := make(map[int]int)

	hold := func(key maps.FlowKey, f maps.Flow) {
		at, port := portsOf{int(f.Slot), int(f.Place)}, f.Source.Port()
		if held[at] == nil {
			held[at] = make(map[uint16]bool)
		}
		if held[at][port] {
			report("port %d of %+v has two users, one is %v", port, at, key)
		}
		held[at][port] = true
	}
	clients := 0
	for key, f := range s.flows {
		if !pairs(key, f, s.flows) {
			report("flow %v (%s) has no mate", key, f.State)
		}
		if f.State&maps.Dead != 0 {
			report("flow %v is dead", key)
		}
		if f.State&maps.MemberSide != 0 {
			continue
		}
		clients++
		hold(key, f)
		if f.State&maps.Closed == 0 {
			open[int(f.Slot)]++
			active[int(f.Slot)]++
		}
	}
	halves := make(map[maps.FlowKey]maps.Flow)
	for key, h := range s.handshakes {
		halves[key] = h.Flow
	}
	for key, f := range halves {
		if !pairs(key, f, halves) {
			report("half-open %v (%s) has no mate", key, f.State)
		}
		if f.State&maps.Dead != 0 {
			report("half-open %v is dead", key)
		}
		if f.State&maps.MemberSide == 0 {
			hold(key, f)
			open[int(f.Slot)]++
		}
	}
	s.compareLevels(report, clients, held, open, active)
	return out.String()
}

// touched says which entries are not what they were: a packet that leads to nothing
// changes nothing.
func (s snapshot) touched(before snapshot) string {
	var out strings.Builder
	for key, f := range s.flows {
		if was := before.flows[key]; was != f {
			fmt.Fprintf(&out, "flow %v was %+v, is %+v\n", key, was, f)
		}
	}
	for key, h := range s.handshakes {
		if was := before.handshakes[key]; was != h {
			fmt.Fprintf(&out, "half-open %v was %+v, is %+v\n", key, was, h)
		}
	}
	return out.String()
}

// pairs tells whether the other direction is there and leads back.
func pairs(key maps.FlowKey, f maps.Flow, all map[maps.FlowKey]maps.Flow) bool {
	mate := maps.FlowKey{Source: f.Destination, Destination: f.Source, Protocol: key.Protocol}
	other, there := all[mate]
	return there && other.Destination == key.Source && other.Source == key.Destination &&
		other.Slot == f.Slot && other.Place == f.Place && other.Serial == f.Serial &&
		(other.State^f.State)&maps.MemberSide != 0
}

func (s snapshot) compareLevels(report func(string, ...any), clients int,
	held map[portsOf]map[uint16]bool, open, active map[int]int,
) {
	equal := func(what string, got, want int) {
		if got != want {
			report("%s is %d, the tables hold %d", what, got, want)
		}
	}
	equal("flows", int(s.counts["flows"]), clients)
	equal("handshakes", int(s.counts["handshakes"]), len(s.handshakes)/2)
	sumActive, orphans := 0, 0
	for at, state := range s.states {
		set, lost := countPorts(report, at, &state, held[at])
		what := fmt.Sprintf("%+v", at)
		equal("ports used of "+what, int(state.PortsUsed), set)
		equal("set port bits of "+what, set, len(held[at])+lost)
		// A port that belongs to nobody still counts as a connection.
		open[at.slot] += lost
		orphans += lost
		if at.source > 0 {
			equal("active of "+what, int(int32(state.Active)), 0)
			continue
		}
		equal(memberName(at.slot, "active"), int(int32(state.Active)), active[at.slot])
		sumActive += active[at.slot]
	}
	for at := range s.states {
		equal(memberName(at.slot, "conns"), int(int32(s.conns[at.slot])), open[at.slot])
	}
	equal("active", int(s.counts["active"]), sumActive)
	equal("ports of nobody", orphans, s.orphans)
}

// countPorts counts the ports that are taken and those of them that nobody holds, and
// looks whether the words without a free one are known.
func countPorts(report func(string, ...any), at portsOf, state *bpf.Lb4MemberState, held map[uint16]bool) (set, lost int) {
	for word, ports := range state.Ports {
		if full := state.Full[word/64]>>(word%64)&1 != 0; full != (^ports == 0) {
			report("word %d of %+v is %#x, and said to be full: %t", word, at, ports, full)
		}
		set += bits.OnesCount64(ports)
		for ports != 0 {
			bit := bits.TrailingZeros64(ports)
			ports &= ports - 1
			if !held[uint16(1024+word*64+bit)] {
				lost++
			}
		}
	}
	return set, lost
}
