package cost

import (
	"context"
	"fmt"

	"github.com/cilium/ebpf"

	"qlbaas/loader"
	"qlbaas/tests/bench/table"
	"qlbaas/tests/packet"
)

// How many clients there are.
const (
	few      = 1 << 16
	many     = 1 << 19
	everyone = 1 << 20
	endless  = 1 << 24 // more than can come
)

// calm is how many handshakes fit into one run: with more in flight the pool asks for cookies.
const calm = 8000

// repeated is how often a packet is, so that it takes some 50 ms; batches is how many runs of
// new connections are one measurement.
const (
	repeated = 200_000
	batches  = 4
)

// kind is one kind of packets.
type kind struct {
	what    string
	size    int
	clients uint32
	pool    *pool
	make    func(size int) []byte
	// passes says that they are left to the stack, opens that each opens a connection.
	passes, opens bool
	bound         float64 // of the cost, in MAC swaps; 0 = none is set
}

func (k kind) name() string {
	return fmt.Sprintf("cost per packet, %s, %d bytes", k.what, k.size)
}

func (k kind) scene() scene {
	return scene{frame: k.make(k.size), clients: k.clients, ifindex: k.pool.ifindex}
}

// repeated is how many packets are one run.
func (o Options) repeated() uint32 {
	if o.Quick {
		return repeated / 4
	}
	return repeated
}

func notOurs(size int) []byte {
	return segment(size, firstClient, other, packet.ACK, clientISN+1, memberISN+1)
}

// packets measures what each kind of packet costs.
func (b *bench) packets(ctx context.Context) error {
	small, err := b.node.deploy(ctx, loader.RoundRobin, 32, 2*few)
	if err != nil {
		return err
	}
	large, err := b.node.deploy(ctx, loader.RoundRobin, 32, everyone)
	if err != nil {
		return err
	}
	opens, err := b.node.deploy(ctx, loader.RoundRobin, 2, loader.DefaultFlowLimit)
	if err != nil {
		return err
	}
	for p, flows := range map[*pool]uint32{small: few, large: many} {
		if err := p.inside(func() error { return p.grow(flows) }); err != nil {
			return err
		}
	}
	b.small, b.large = small, large
	kinds := []kind{
		{what: "not ours", size: smallFrame, clients: 1, pool: small, make: notOurs, passes: true, bound: 2.8},
		{what: "not ours", size: largeFrame, clients: 1, pool: small, make: notOurs, passes: true, bound: 2.8},
		{what: "1 flow", size: smallFrame, clients: 1, pool: small, make: established, bound: 5},
		{what: "1 flow", size: largeFrame, clients: 1, pool: small, make: established, bound: 5},
		{what: "65,536 flows", size: smallFrame, clients: few, pool: small, make: established, bound: 17},
		{what: "65,536 flows", size: largeFrame, clients: few, pool: small, make: established, bound: 17},
		{what: "524,288 flows", size: smallFrame, clients: many, pool: large, make: established, bound: 18},
		{what: "every SYN new", size: smallFrame, clients: endless, pool: opens, make: syn, opens: true, bound: 45},
	}
	for _, s := range b.stages {
		b.sizes(s, small)
		found, err := b.kinds(s, kinds)
		if err != nil {
			return err
		}
		for i, k := range kinds {
			b.put(k.name(), s.hook, found[i], k.bound)
		}
	}
	return b.live(small)
}

// costs are those of one kind of packets, by round.
type costs struct{ own, macs []float64 }

// kinds measures all kinds on one hook, round by round.
func (b *bench) kinds(s *stage, kinds []kind) ([]costs, error) {
	found := make([]costs, len(kinds))
	for round := range b.rounds() + 1 {
		for i, k := range kinds {
			var own, macs float64
			err := k.pool.inside(func() (err error) {
				own, macs, err = b.compare(s, k, round)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("%s on %s: %w", k.name(), s.hook, err)
			}
			if round > 0 { // the first one warms up
				found[i].own, found[i].macs = append(found[i].own, own), append(found[i].macs, macs)
			}
		}
	}
	return found, nil
}

// put says what was found of a subject.
func (b *bench) put(what, who string, c costs, bound float64) {
	swap := who + " MAC swap"
	b.figure(table.Of(what, who, "ns", c.own))
	b.figure(table.Of(what, swap, "ns", c.macs))
	if bound > 0 {
		b.goal(table.AtMost(what, who, swap, c.own, c.macs, bound))
	}
}

// compare measures once what a packet costs, and what it costs the MAC swap, in an order that
// is another one each round.
func (b *bench) compare(s *stage, k kind, round int) (own, macs float64, err error) {
	runs, packets := 1, b.repeated()
	if k.opens { // no more than that at once
		runs, packets = batches, calm
	}
	var swapped float64 // by the MAC swap, with the packet restored
	on := k.scene()
	steps := []func() error{
		func() (err error) { macs, _, err = s.run(s.macs, on, b.repeated()); return err },
		func() error {
			for range runs {
				ns, _, err := s.play(s.macs, on, packets)
				if err != nil {
					return err
				}
				swapped += ns / float64(runs)
			}
			return nil
		},
		func() error {
			for range runs {
				ns, err := s.checked(k, on, packets)
				if err != nil {
					return err
				}
				own += ns / float64(runs)
			}
			return nil
		},
	}
	for i := range steps {
		if err := steps[(round+i)%len(steps)](); err != nil {
			return 0, 0, err
		}
	}
	return own - (swapped - macs), macs, nil
}

// checked plays the balancer's program and fails if anything else became of the packets
// than what the kind is about.
func (s *stage) checked(k kind, on scene, packets uint32) (ns float64, err error) {
	before, err := k.pool.stats()
	if err != nil {
		return 0, err
	}
	ns, code, err := s.play(k.pool.program(s.hook), on, packets)
	if err != nil {
		return 0, err
	}
	after, err := k.pool.stats()
	if err != nil {
		return 0, err
	}
	verdict, wanted := "forwarded", map[string]uint32{hookXDP: xdpTX, hookTCX: tcRedirect}[s.hook]
	if k.passes {
		verdict, wanted = "passed", map[string]uint32{hookXDP: xdpPass, hookTCX: tcUnspec}[s.hook]
	}
	n := after.Verdicts[verdict] - before.Verdicts[verdict]
	counted := !k.passes || s.hook != hookXDP // which leaves the counting to tc
	if code != wanted || counted && n < uint64(packets) {
		return 0, fmt.Errorf("of %d packets %d were %s, and the last one came to %d", packets, n, verdict, int32(code))
	}
	if k.opens {
		err = k.pool.forget()
	}
	return ns, err
}

// sizes says how large the programs are.
func (b *bench) sizes(s *stage, p *pool) {
	info, err := p.program(s.hook).Info()
	if err != nil {
		b.note("%s: no size: %v", s.hook, err)
		return
	}
	verified, _ := info.VerifiedInstructions()
	translated, err := info.TranslatedSize()
	if err != nil {
		b.note("%s: no size: %v", s.hook, err)
		return
	}
	b.figure(table.Of("instructions that the verifier walked", s.hook, "", []float64{float64(verified)}))
	b.figure(table.Of("instructions of the program", s.hook, "", []float64{float64(translated / instruction)}))
}

// instruction is the size of one, in bytes.
const instruction = 8

// program is the pool's on a hook.
func (p *pool) program(hook string) *ebpf.Program {
	if hook == hookXDP {
		return p.xdp
	}
	return p.tc
}
