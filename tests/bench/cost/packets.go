package cost

import (
	"errors"
	"fmt"

	"qlbaas/tests/bench/table"
)

const (
	// calm is how many handshakes fit into one run: with more in flight the pool asks for
	// cookies. So many runs are one measurement.
	calm    = 8000
	batches = 4
	// repeated is how often any other packet is, so that it takes some 50 ms.
	repeated = 200_000
	// remembered is how many packets flows are sure to remember their routes for.
	remembered = 1 << 16
)

// kind is one kind of packets.
type kind struct {
	what    string
	size    int
	clients uint32
	pool    *pool
	make    func(size int) []byte
	bound   float64 // of the cost, in MAC swaps; 0 = none is set
	// passes says that they are left to the stack, opens that each opens a connection.
	passes, opens bool
}

func (k kind) name() string {
	return fmt.Sprintf("cost per packet, %s, %d bytes", k.what, len(k.make(k.size)))
}

func (k kind) scene() scene { return scene{frame: k.make(k.size), clients: k.clients, pool: k.pool} }

// kinds are those that the subject finishes.
func (b *bench) kinds(subject string) []kind {
	all := []kind{
		{what: "not ours", size: smallFrame, clients: 1, pool: b.small, make: notOurs, passes: true, bound: 2.8},
		{what: "not ours", size: largeFrame, clients: 1, pool: b.small, make: notOurs, passes: true, bound: 2.8},
		{what: "1 flow", size: smallFrame, clients: 1, pool: b.small, make: fromClient, bound: 5},
		{what: "1 flow", size: largeFrame, clients: 1, pool: b.small, make: fromClient, bound: 5},
		{what: "1 flow, from the member", size: smallFrame, clients: 1, pool: b.small, make: b.small.fromMember},
		{what: "1 flow with timestamps", size: smallFrame, clients: 1, pool: b.small, make: fromStamped},
		{what: "65,536 flows", size: smallFrame, clients: few, pool: b.small, make: fromClient, bound: 17},
		{what: "65,536 flows", size: largeFrame, clients: few, pool: b.small, make: fromClient, bound: 17},
	}
	if subject == subjectOutside {
		return all // it opens nothing, and of more flows it could not be sure, see remind
	}
	if !b.Quick {
		all = append(all, kind{what: "524,288 flows", size: smallFrame, clients: many, pool: b.large, make: fromClient, bound: 18})
	}
	return append(all, kind{what: "every SYN new", size: smallFrame, clients: endless, pool: b.opens, make: syn, opens: true, bound: 45})
}

// packets measures what each kind of packets costs.
func (b *bench) packets(s *stage) error {
	kinds := b.kinds(s.subject)
	found, err := b.measure(s, kinds)
	if err != nil {
		return err
	}
	swap := s.subject + " MAC swap"
	for i, k := range kinds {
		b.figure(table.Of(k.name(), s.subject, "ns", found[i].own))
		b.figure(table.Of(k.name(), swap, "ns", found[i].macs))
		if k.bound > 0 {
			b.goal(table.AtMost(k.name(), s.subject, swap, found[i].own, found[i].macs, k.bound))
		}
	}
	return nil
}

// costs are those of one kind of packets, by round, and the MAC swap's beside them.
type costs struct{ own, macs []float64 }

// measure measures kinds of packets, round by round, in an order that is another one each time.
func (b *bench) measure(s *stage, kinds []kind) ([]costs, error) {
	found := make([]costs, len(kinds))
	for round := range b.rounds() + 1 {
		for i := range kinds {
			i = (round + i) % len(kinds)
			var own, macs float64
			err := s.at(kinds[i].pool, func() (err error) {
				own, macs, err = b.compare(s, kinds[i], round)
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", kinds[i].name(), err)
			}
			if round > 0 { // the first one warms up
				found[i].own, found[i].macs = append(found[i].own, own), append(found[i].macs, macs)
			}
		}
	}
	return found, nil
}

// compare measures once what a packet costs, and what it costs the MAC swap.
func (b *bench) compare(s *stage, k kind, round int) (own, macs float64, err error) {
	runs, packets, long := 1, uint32(repeated), uint32(repeated)
	if b.Quick {
		packets, long = repeated/4, repeated/4
	}
	switch {
	case k.opens: // no more than that at once
		runs, packets = batches, calm
	case s.subject == subjectOutside:
		packets = min(packets, remembered)
	}
	var swapped float64 // by the MAC swap, with the packet restored
	on := k.scene()
	steps := []func() error{
		func() (err error) { macs, _, err = s.run(s.macs, on, long); return err },
		func() (err error) {
			swapped, err = average(runs, func() (float64, error) { ns, _, err := s.play(s.macs, on, packets); return ns, err })
			return err
		},
		func() (err error) {
			own, err = average(runs, func() (float64, error) { return s.checked(k, on, packets) })
			return err
		},
	}
	for i := range steps {
		if err := steps[(round+i)%len(steps)](); err != nil {
			return 0, 0, err
		}
	}
	return own - (swapped - macs), macs, nil
}

func average(runs int, run func() (float64, error)) (float64, error) {
	var sum float64
	for range runs {
		one, err := run()
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum / float64(runs), nil
}

// errOther says that something else became of packets than what their kind is about.
var errOther = errors.New("other packets than were meant")

// patience is how often the program at the outside device is tried: on a machine that others
// keep busy, flows may have forgotten their routes by the time that it runs.
const patience = 10

// checked plays the balancer's program and fails if anything else became of the packets
// than what the kind is about.
func (s *stage) checked(k kind, on scene, packets uint32) (ns float64, err error) {
	if s.subject != subjectOutside || k.passes {
		return s.once(k, on, packets)
	}
	for range patience {
		if err = s.remind(on); err != nil {
			return 0, err
		}
		if ns, err = s.once(k, on, packets); !errors.Is(err, errOther) {
			break
		}
	}
	return ns, err
}

func (s *stage) once(k kind, on scene, packets uint32) (ns float64, err error) {
	want := expectation(s.subject, k.passes)
	before, err := k.pool.counted(want.verdict)
	if err != nil {
		return 0, err
	}
	ns, code, err := s.play(k.pool.programs[s.subject], on, packets)
	if err != nil {
		return 0, err
	}
	after, err := k.pool.counted(want.verdict)
	if err != nil {
		return 0, err
	}
	if code != want.code || want.counted && after-before < uint64(packets) {
		return 0, fmt.Errorf("of %d packets %d were %s, and the last one came to %d: %w", packets, after-before, want.verdict, int32(code), errOther)
	}
	if k.opens {
		err = k.pool.forget()
	}
	return ns, err
}

// expected is what becomes of packets.
type expected struct {
	verdict string
	code    uint32
	counted bool // fast lanes leave it to the last program to count what they leave to it
}

func expectation(subject string, passes bool) expected {
	switch {
	case passes && subject == subjectXDP:
		return expected{"passed", xdpPass, false}
	case passes:
		return expected{"passed", tcUnspec, subject == subjectTCX}
	case subject == subjectXDP:
		return expected{"forwarded", xdpTX, true}
	}
	return expected{"forwarded", tcRedirect, true}
}

// remind makes flows remember their routes, which they do for a moment only, and which the
// program at the outside device asks for: each client sends a packet through the pool.
func (s *stage) remind(on scene) error {
	inside, err := newStage(subjectTCX)
	if err != nil {
		return err
	}
	defer inside.close()
	return on.pool.within(func() error {
		_, _, err := inside.play(on.pool.programs[subjectTCX], on, on.clients)
		return err
	})
}

// sizes says how large the program is.
func (b *bench) sizes(s *stage) {
	info, err := b.small.programs[s.subject].Info()
	if err != nil {
		b.note("%s: no size: %v", s.subject, err)
		return
	}
	verified, _ := info.VerifiedInstructions()
	translated, err := info.TranslatedSize()
	if err != nil {
		b.note("%s: no size: %v", s.subject, err)
		return
	}
	b.figure(table.Of("instructions that the verifier walked", s.subject, "", []float64{float64(verified)}))
	b.figure(table.Of("instructions of the program", s.subject, "", []float64{float64(translated / instruction)}))
}

// instruction is the size of one, in bytes.
const instruction = 8
