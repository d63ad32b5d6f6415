package cost

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"qlbaas/tests/bench/table"
)

// BPF_F_TEST_XDP_LIVE_FRAMES: what the program returns is done, as with a frame of a driver.
const liveFrames = 1 << 1

// liveRepeated is how many frames are made, so that they take some 500 ms.
const liveRepeated = 1_000_000

// live measures how many packets one core forwards on XDP: made by the kernel, sent by the
// program from the pool's device, and received at the other end of its wire, where a program
// counts them and they end. All of that is this core's work.
func (b *bench) live(s *stage) error {
	p := b.small
	end, err := link.LoadPinnedLink(p.pin("links", "xdp_peer"), nil)
	if err != nil {
		return fmt.Errorf("open the link at the other end: %w", err)
	}
	defer end.Close()
	if err := end.Update(s.count); err != nil {
		return fmt.Errorf("count at the other end: %w", err)
	}
	for _, k := range []kind{
		{what: "1 flow", size: smallFrame, clients: 1, pool: p, make: fromClient},
		{what: "65,536 flows", size: smallFrame, clients: few, pool: p, make: fromClient},
	} {
		var own, macs []float64
		err := p.within(func() error {
			return onOneCore(func() (err error) {
				own, macs, err = b.liveRounds(s, k)
				return err
			})
		})
		if err != nil {
			return fmt.Errorf("live frames, %s: %w", k.what, err)
		}
		what := fmt.Sprintf("packets/s of one core, live frames, %s, %d bytes", k.what, k.size)
		b.figure(table.Of(what, subjectXDP, "1/s", own))
		b.figure(table.Of(what, "xdp MAC swap", "1/s", macs))
		b.goal(table.AtLeast(what, subjectXDP, "xdp MAC swap", own, macs, 0.5))
	}
	return nil
}

func (b *bench) liveRounds(s *stage, k kind) (own, macs []float64, err error) {
	subjects := []*ebpf.Program{k.pool.programs[subjectXDP], s.macs}
	var found [2][]float64
	for round := range b.rounds() + 1 {
		for i := range subjects {
			subject := (round + i) % len(subjects)
			packets := uint32(liveRepeated)
			if b.Quick {
				packets /= 4
			}
			rate, err := s.rate(subjects[subject], k.scene(), packets)
			if err != nil {
				return nil, nil, err
			}
			if round > 0 {
				found[subject] = append(found[subject], rate)
			}
		}
	}
	return found[0], found[1], nil
}

// rate is how many packets a second the program sends, counted where they arrive.
func (s *stage) rate(program *ebpf.Program, on scene, packets uint32) (float64, error) {
	if err := s.prepare(program, on); err != nil {
		return 0, err
	}
	before, err := s.arrived()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	_, err = s.again.Run(&ebpf.RunOptions{Data: on.frame, Context: s.context(on), Repeat: packets, Flags: liveFrames})
	took := time.Since(start)
	if err != nil {
		return 0, fmt.Errorf("send live frames: %w", err)
	}
	after, err := s.arrived()
	if err != nil {
		return 0, err
	}
	if n := after - before; n < uint64(packets)*99/100 {
		return 0, fmt.Errorf("of %d packets %d have arrived", packets, n)
	}
	return float64(after-before) / took.Seconds(), nil
}

// arrived is how many packets have come to the other end so far.
func (s *stage) arrived() (n uint64, err error) {
	var counts []uint64
	if err := s.counts.Lookup(uint32(0), &counts); err != nil {
		return 0, fmt.Errorf("read what has arrived: %w", err)
	}
	for _, c := range counts {
		n += c
	}
	return n, nil
}

// maxCPUs is how many a set of CPUs can name.
const maxCPUs = 1024

// onOneCore calls fn on one CPU, and leaves the thread free again.
func onOneCore(fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("read the thread's CPUs: %w", err)
	}
	for cpu := range maxCPUs {
		if before.IsSet(cpu) {
			one.Set(cpu)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("keep the thread on one CPU: %w", err)
	}
	return errors.Join(fn(), unix.SchedSetaffinity(0, &before))
}
