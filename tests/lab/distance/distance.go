// Package distance joins two hosts by a wire that takes its time: every packet arrives a
// fixed while after it was sent, in order. The kernel's own means for that (netem) is a
// module that not every kernel has, so packets go through this process.
package distance

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// End is one end of a wire.
type End struct {
	Host *lab.Host
	// Device is the name of the end's device, which is made.
	Device string
	// Address with its prefix length goes to the device.
	Address netip.Prefix
}

// Wire is the way between two hosts. The caller closes it.
type Wire struct {
	files   [2]*os.File
	moving  sync.WaitGroup
	closing chan struct{}
	lost    atomic.Uint64
}

// room is how many packets are on their way in one direction at most; a Go channel's
// worth of them costs nothing while it is empty.
const room = 1 << 14

// maxPacket is what the devices carry.
const maxPacket = 1500

// Link joins two hosts; each packet takes delay, so a round trip takes twice that.
func Link(a, b End, delay time.Duration) (*Wire, error) {
	w := &Wire{closing: make(chan struct{})}
	for i, e := range []End{a, b} {
		file, err := e.open()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("make device %s on %s: %w", e.Device, e.Host.Name(), err), w.closeFiles())
		}
		w.files[i] = file
	}
	for i := range w.files {
		way := make(chan parcel, room)
		w.moving.Go(func() { w.take(w.files[i], way, delay) })
		w.moving.Go(func() { w.deliver(way, w.files[1-i]) })
	}
	return w, nil
}

// Lost is how many packets found no room on the way, or no receiver.
func (w *Wire) Lost() uint64 { return w.lost.Load() }

// Close takes the wire and its devices away.
func (w *Wire) Close() error {
	close(w.closing)
	err := w.closeFiles()
	w.moving.Wait()
	return err
}

func (w *Wire) closeFiles() error {
	var errs []error
	for _, f := range w.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// open makes the end's device and the file by which its packets are had.
func (e End) open() (*os.File, error) {
	var fd int
	err := e.Host.Do(func() (err error) {
		fd, err = openTun(e.Device)
		return err
	})
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), e.Device)
	if err := e.Host.AddAddress(e.Device, e.Address); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if err := e.Host.SetUp(e.Device); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// openTun makes a device in the thread's namespace that carries IP packets.
func openTun(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open tun: %w", err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return -1, errors.Join(err, unix.Close(fd))
	}
	return fd, nil
}

// parcel is a packet on its way.
type parcel struct {
	due    time.Time
	packet []byte
}

// take takes packets from a device and sends them on their way.
func (w *Wire) take(from *os.File, way chan<- parcel, delay time.Duration) {
	defer close(way)
	buffer := make([]byte, maxPacket)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return // closed
		}
		select {
		case way <- parcel{time.Now().Add(delay), append([]byte(nil), buffer[:n]...)}:
		default:
			w.lost.Add(1)
		}
	}
}

// deliver hands packets over when they are due.
func (w *Wire) deliver(way <-chan parcel, to *os.File) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for p := range way {
		timer.Reset(time.Until(p.due))
		select {
		case <-timer.C:
		case <-w.closing:
			return
		}
		if _, err := to.Write(p.packet); err != nil {
			w.lost.Add(1)
		}
	}
}
