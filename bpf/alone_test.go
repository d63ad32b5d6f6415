package bpf_test

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
	"qlbaas/maps"
	"qlbaas/tests/packet"
)

// TestExpiryAlone: a thousand new connections a second while nobody calls the expiry.
// Half of them have no timestamps, so that their ports rest for a minute: they alone
// would fill the default table twice. None is refused, none of those that go on is lost,
// the idle ones end, and in the end all that is over is gone, though nothing comes any
// more to push it out. Everyday's table and times are a tenth of the default, which fills
// it as fast for its size; the scoreboard's are the whole, for ten minutes.
func TestExpiryAlone(t *testing.T) {
	a := alone{shrunk: time.Duration(scaled(10, 1)), found: map[string]any{}}
	a.world = newWorld(t, tcHook, options{flowLimit: uint32(16384 / int(a.shrunk))})
	a.configure(func(g *maps.Generation) {
		g.VIP.Closing, g.VIP.Rest = 10*time.Second/a.shrunk, 60*time.Second/a.shrunk
		g.VIP.Idle = 5 * time.Second
	})
	a.startTimer(uint32(scaled(1, 30)))
	const live = 100
	for n := range live {
		a.live = append(a.live, a.opensFast(nth(1<<20+n)))
	}
	idle := live
	for n := range idle {
		a.opensFast(nth(1<<21 + n))
	}
	a.come(time.Duration(scaled(5, 600)) * time.Second)
	a.found["flows_at_the_end"] = a.flows()
	a.silence()
	a.found["tries"], a.found["failures"] = a.opened+live, 0 // a refusal ends the test
	report(t, a.found)
}

type alone struct {
	*world
	shrunk time.Duration
	live   []conn
	opened int
	most   uint32
	found  map[string]any
}

// startTimer starts the pool's timer as a loader does, with a patience of its own.
func (a *alone) startTimer(silent uint32) {
	a.Helper()
	spec, err := bpf.LoadLb4()
	a.must(err)
	a.setVariables(spec)
	a.must(spec.Variables[bpf.Lb4VarSilentSec].Set(silent))
	own, shared := a.pool.Maps(), a.node.Maps()
	all := own.Names()
	for name, m := range shared.Names() {
		all[name] = m
	}
	for name, m := range all {
		spec.Maps[name].MaxEntries = m.MaxEntries()
	}
	var to struct {
		Sweep *ebpf.Program `ebpf:"sweep_ports"`
	}
	a.must(spec.LoadAndAssign(&to, &ebpf.CollectionOptions{MapReplacements: all}))
	a.Cleanup(func() { to.Sweep.Close() })
	a.must(maps.StartExpiry(to.Sweep))
}

// come lets a thousand connections a second come and go, and those that stay say
// something twice a second.
func (a *alone) come(long time.Duration) {
	a.Helper()
	const perTick = 10
	ticker := time.NewTicker(time.Second * perTick / 1000)
	defer ticker.Stop()
	for tick, end := 0, time.Now().Add(long); time.Now().Before(end); tick++ {
		<-ticker.C
		for range perTick {
			a.comesAndGoes()
		}
		if tick%50 == 0 {
			a.talk()
			a.most = max(a.most, a.flows())
		}
	}
	a.found["seconds"], a.found["connections"] = long.Seconds(), a.opened
	a.found["most_flows"], a.found["flow_limit"] = a.most, a.gen.VIP.FlowLimit
	if a.opened <= int(a.gen.VIP.FlowLimit) {
		a.Errorf("only %d connections came, which is not more than the table takes", a.opened)
	}
}

// comesAndGoes is a connection that is opened, and closed by a RST; every other has
// timestamps.
func (a *alone) comesAndGoes() {
	a.Helper()
	from := nth(a.opened % (1 << 20))
	a.opened++
	syn := seg(packet.SYN, clientISN, 0)
	if a.opened%2 == 0 {
		syn = syn.options(packet.Timestamps(uint32(a.opened), 0))
	}
	slot, port := a.chosen(a.only(syn.arrives(from, a.vip())))
	c := conn{w: a.world, client: from, slot: slot, port: port, cseq: syn.end(), mseq: memberISN}
	a.only(seg(packet.SYN|packet.ACK, c.mseq, c.cseq).arrives(c.member(), c.nat()))
	c.mseq++
	a.only(seg(packet.ACK, c.cseq, c.mseq).arrives(c.client, c.vip()))
	a.only(seg(packet.RST, c.cseq, 0).arrives(c.client, c.vip()))
}

// talk lets every connection that stays say something; a lost one would end the test.
func (a *alone) talk() {
	a.Helper()
	for _, c := range a.live {
		a.only(seg(packet.ACK, c.cseq, c.mseq).arrives(c.client, c.vip()))
		a.only(seg(packet.ACK, c.mseq, c.cseq).arrives(c.member(), c.nat()))
	}
}

func (a *alone) flows() uint32 {
	a.Helper()
	state, err := a.pool.PoolState()
	a.must(err)
	return state.Flows
}

// silence: only those that stay are there soon, and their ports.
func (a *alone) silence() {
	a.Helper()
	begin := time.Now()
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for bound := a.gen.VIP.Rest + 20*time.Second; a.flows() > uint32(len(a.live)); <-ticker.C {
		a.talk()
		if time.Since(begin) > bound {
			a.Fatalf("%d flows are in the table %s after the last came, want %d", a.flows(), bound, len(a.live))
		}
	}
	a.found["nothing_left_s"] = time.Since(begin).Seconds()
	a.talk()
	if n := a.flows(); n != uint32(len(a.live)) {
		a.Errorf("%d flows are left, want %d", n, len(a.live))
	}
	ports := uint32(0)
	for slot := range 3 {
		ports += a.memberState(slot).PortsUsed
	}
	if int(ports) != len(a.live) {
		a.Errorf("%d ports are taken, want %d", ports, len(a.live))
	}
	a.checkInvariants()
}
