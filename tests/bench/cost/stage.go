package cost

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Who is measured: the pool's program on XDP, on tcx, and at the outside device's egress.
const (
	subjectXDP     = "xdp"
	subjectTCX     = "tcx"
	subjectOutside = "outside"
)

// What programs return (linux/pkt_cls.h, linux/bpf.h).
const (
	tcUnspec   = 0xffffffff
	tcRedirect = 7
	xdpPass    = 2
	xdpTX      = 3
)

// skb is struct __sk_buff, of which BPF_PROG_TEST_RUN accepts a few fields.
type skb struct {
	_       [10]uint32
	Ifindex uint32 // the device that the packet came in by
	_       [36]uint32
}

// xdpContext is struct xdp_md.
type xdpContext struct {
	Data, DataEnd, DataMeta         uint32
	IngressIfindex, RxQueue, Egress uint32
}

// stage runs programs of one hook over and over, on packets that are as new each time.
type stage struct {
	subject string
	// again restores the packet and goes on to what is in underTest.
	again, macs       *ebpf.Program
	count             *ebpf.Program // XDP only
	underTest, counts *ebpf.Map
	original, clients *ebpf.Variable
}

// newStage loads the programs that a subject is measured with.
func newStage(subject string) (*stage, error) {
	s := &stage{subject: subject}
	var err error
	if subject == subjectXDP {
		var to xdpObjects
		err = loadXdpObjects(&to, nil)
		s.again, s.macs, s.count = to.Again, to.Macs, to.Count
		s.underTest, s.counts = to.UnderTest, to.Counts
		s.original, s.clients = to.Original, to.Clients
	} else {
		var to tcObjects
		err = loadTcObjects(&to, nil)
		s.again, s.macs, s.underTest = to.Again, to.Macs, to.UnderTest
		s.original, s.clients = to.Original, to.Clients
	}
	if err != nil {
		return nil, fmt.Errorf("load programs of the stage: %w", err)
	}
	return s, nil
}

func (s *stage) close() error {
	return errors.Join(s.again.Close(), s.macs.Close(), s.count.Close(), s.underTest.Close(), s.counts.Close())
}

// scene is what the program under test meets.
type scene struct {
	frame   []byte
	clients uint32 // who take turns, a power of two
	pool    *pool
}

// at calls fn where the subject's programs run.
func (s *stage) at(p *pool, fn func() error) error {
	if s.subject != subjectOutside {
		return p.within(fn)
	}
	runtime.LockOSThread() // whose CPU time is measured
	defer runtime.UnlockOSThread()
	return fn()
}

// play runs the program on packets that are restored, and says what one of them took of
// the CPU, in nanoseconds, and what the last one came to.
func (s *stage) play(program *ebpf.Program, on scene, packets uint32) (ns float64, code uint32, err error) {
	if err := s.prepare(program, on); err != nil {
		return 0, 0, err
	}
	return s.run(s.again, on, packets)
}

// run runs a program on what it leaves itself.
func (s *stage) run(program *ebpf.Program, on scene, packets uint32) (ns float64, code uint32, err error) {
	o := ebpf.RunOptions{Data: on.frame, Context: s.context(on), Repeat: packets}
	before, err := cpuTime()
	if err != nil {
		return 0, 0, err
	}
	code, err = program.Run(&o)
	if err != nil {
		return 0, 0, fmt.Errorf("run program: %w", err)
	}
	after, err := cpuTime()
	return float64(after-before) / float64(packets), code, err
}

// prepare says what the packets are like, and who gets them.
func (s *stage) prepare(program *ebpf.Program, on scene) error {
	if err := s.underTest.Put(uint32(0), program); err != nil {
		return fmt.Errorf("set program under test: %w", err)
	}
	var original [headers]byte
	copy(original[:], on.frame)
	if err := errors.Join(s.original.Set(original), s.clients.Set(on.clients-1)); err != nil {
		return fmt.Errorf("set packet: %w", err)
	}
	return nil
}

func (s *stage) context(on scene) any {
	switch s.subject {
	case subjectXDP:
		return &xdpContext{DataEnd: uint32(len(on.frame)), IngressIfindex: uint32(on.pool.inside)}
	case subjectTCX:
		return &skb{Ifindex: uint32(on.pool.inside)}
	}
	return &skb{Ifindex: uint32(on.pool.outside)}
}

// cpuTime is what this thread has had of its CPU, in nanoseconds. Unlike the kernel's own
// account of the run it is not rounded for each packet, and others' work is not in it.
func cpuTime() (int64, error) {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0, fmt.Errorf("read thread's CPU time: %w", err)
	}
	return t.Nano(), nil
}
