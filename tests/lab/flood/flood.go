package flood

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// Options of a flood. Device, MAC, Target, Sources and Time are required.
type Options struct {
	// Device to send on.
	Device string
	// MAC is the target's on the device's network.
	MAC net.HardwareAddr
	// Target is an IPv4 address with a port.
	Target netip.AddrPort
	// Sources are drawn from this network.
	Sources netip.Prefix
	// Time and Count bound the flood; Count 0 means that only the time does.
	Time  time.Duration
	Count uint64
	// Rate in segments per second; 0 means as fast as it goes.
	Rate int
	// ACKs sends, after each SYN, the ACK of an answer that was never seen.
	ACKs bool
	// CPU that the sender is pinned to.
	CPU int
	// Seed of the senders.
	Seed uint64
}

// Flood is under way until it has ended.
type Flood struct {
	options Options
	sent    atomic.Uint64
	stop    atomic.Bool
	ended   chan struct{}
	took    time.Duration // valid once ended
	cpu     time.Duration // valid once ended
	err     error         // valid once ended
}

// Start begins a flood from a host. It must be stopped or waited for before the host's
// laboratory closes.
func Start(h *lab.Host, o Options) (*Flood, error) {
	if !o.Target.Addr().Is4() || !o.Sources.Addr().Is4() || o.Time <= 0 || len(o.MAC) != 6 {
		return nil, fmt.Errorf("start flood on %s: bad options %+v", h.Name(), o)
	}
	own, err := h.MAC(o.Device)
	if err != nil {
		return nil, fmt.Errorf("start flood: %w", err)
	}
	f := &Flood{options: o, ended: make(chan struct{})}
	opened := make(chan error, 1)
	go func() {
		defer close(f.ended)
		f.err = h.Do(func() error {
			fd, err := f.open()
			opened <- err
			if err != nil {
				return err
			}
			defer func() { _ = unix.Close(fd) }()
			return f.send(fd, own)
		})
	}()
	if err := <-opened; err != nil {
		<-f.ended
		return nil, fmt.Errorf("start flood on %s: %w", h.Name(), err)
	}
	return f, nil
}

// Sent is how many segments the device has taken so far.
func (f *Flood) Sent() uint64 { return f.sent.Load() }

// Ended is closed when the flood is over.
func (f *Flood) Ended() <-chan struct{} { return f.ended }

// Wait waits for the end and returns how long the flood has lasted.
func (f *Flood) Wait() (time.Duration, error) {
	<-f.ended
	return f.took, f.err
}

// CPU waits for the end and returns how much time of its CPU the flood was given: with the
// time that it lasted, how far the rate is that of a machine with nothing else to do.
func (f *Flood) CPU() time.Duration {
	<-f.ended
	return f.cpu
}

// Stop ends the flood now, if it has not ended, and is Wait.
func (f *Flood) Stop() (time.Duration, error) {
	f.stop.Store(true)
	return f.Wait()
}

// open prepares the thread and a socket that receives nothing and has no queue before
// the device.
func (f *Flood) open() (int, error) {
	var cpus unix.CPUSet
	cpus.Set(f.options.CPU)
	if err := unix.SchedSetaffinity(0, &cpus); err != nil {
		return -1, fmt.Errorf("pin to CPU %d: %w", f.options.CPU, err)
	}
	// What comes in by a wire does not wait for anybody's turn on a CPU either. The thread
	// ends with the flood (lab.Host.Do), and with it what it was allowed.
	first := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}
	if err := unix.SchedSetAttr(0, &first, 0); err != nil {
		return -1, fmt.Errorf("go first: %w", err)
	}
	dev, err := net.InterfaceByName(f.options.Device)
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: dev.Index})
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// batch is how many segments one system call sends.
const batch = 64

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	length uint32
	_      uint32
}

// send sends until the flood is to end.
func (f *Flood) send(fd int, own net.HardwareAddr) error {
	load := newLoad(f.options, own)
	begin := time.Now()
	end := begin.Add(f.options.Time)
	defer func() {
		f.took = time.Since(begin)
		var usage unix.Rusage
		if unix.Getrusage(unix.RUSAGE_THREAD, &usage) == nil {
			f.cpu = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		}
	}()
	for n := uint64(0); !f.stop.Load() && time.Now().Before(end); {
		size := uint64(batch)
		if f.options.Count > 0 {
			size = min(size, f.options.Count-n)
		}
		if size == 0 {
			return nil
		}
		taken, err := load.send(fd, int(size))
		if err != nil {
			return fmt.Errorf("send on %s: %w", f.options.Device, err)
		}
		n += uint64(taken)
		f.sent.Store(n)
		if f.options.Rate > 0 {
			pace(begin.Add(time.Duration(n) * time.Second / time.Duration(f.options.Rate)))
		}
	}
	return nil
}

// pace waits until it is time for the next batch.
func pace(due time.Time) {
	left := time.Until(due)
	if left <= 0 {
		return
	}
	ts := unix.NsecToTimespec(left.Nanoseconds())
	_ = unix.Nanosleep(&ts, nil) // woken early: the flood is a little faster for once
}

// load is a batch of frames, over and over with other senders.
type load struct {
	random     *rand.Rand
	base, mask uint32
	kinds      []template // in turn
	frames     [batch][]byte
	vectors    [batch]unix.Iovec
	messages   [batch]message
}

func newLoad(o Options, own net.HardwareAddr) *load {
	base := o.Sources.Masked().Addr().As4()
	l := &load{
		random: rand.New(rand.NewPCG(o.Seed, 0)),
		base:   uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3]),
		mask:   uint32(uint64(1)<<(32-o.Sources.Bits()) - 1),
		kinds:  []template{newTemplate(own, o.MAC, o.Target, flagSYN)},
	}
	if o.ACKs {
		l.kinds = append(l.kinds, newTemplate(own, o.MAC, o.Target, flagACK))
	}
	for i := range l.frames {
		l.frames[i] = append([]byte(nil), l.kinds[i%len(l.kinds)].frame...)
		l.vectors[i].Base = &l.frames[i][0]
		l.vectors[i].SetLen(len(l.frames[i]))
		l.messages[i].header.Iov = &l.vectors[i]
		l.messages[i].header.SetIovlen(1)
	}
	return l
}

// send sends the first n frames of a new batch and returns how many were taken. What the
// device has no room for is lost, as on any wire.
func (l *load) send(fd, n int) (taken int, err error) {
	var s sender
	for i, f := range l.frames[:n] {
		kind := i % len(l.kinds)
		if kind == 0 {
			s = random(l.random, l.base, l.mask)
		}
		l.kinds[kind].put(f, s)
	}
	for done := 0; done < n; {
		r, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd),
			uintptr(unsafe.Pointer(&l.messages[done])), uintptr(n-done), 0, 0, 0)
		switch {
		case errno == 0:
			done += int(r)
			taken += int(r)
		case errno == unix.ENOBUFS || errno == unix.EAGAIN:
			done++
		case errno != unix.EINTR:
			return taken, errno
		}
	}
	runtime.KeepAlive(l)
	return taken, nil
}
