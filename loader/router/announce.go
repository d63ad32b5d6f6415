package router

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/loader/announce"
)

// How often an address is announced, and the time between two announcements.
const (
	announcements = 3
	announcePause = 500 * time.Millisecond
)

// shout is a frame, and the device that it leaves by.
type shout struct {
	frame  string
	device int
}

// shouts are what the legs may say at all: whatever they said before and is not among it
// is somebody else's to say now, and a word too late would call clients back.
func shouts(w *Router, wires []*wire) map[shout]bool {
	all := map[shout]bool{}
	if !w.AdminUp {
		return all
	}
	for _, wire := range wires {
		for _, a := range wire.addresses(w) {
			all[wire.shout(a)] = true
		}
	}
	return all
}

func (wire *wire) shout(a netip.Addr) shout {
	return shout{string(announce.Frame(wire.leg.MAC, a)), wire.inside.Attrs().Index}
}

// announceAll tells the networks of the addresses that have come to this router: once now
// and again in the background, until there are enough or the address has gone.
func (n *Node) announceAll(ctx context.Context, r *router, wires []*wire) error {
	var fresh []shout
	for _, w := range wires {
		for a := range r.announce[w.leg.PortID] {
			fresh = append(fresh, w.shout(a))
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := n.step(ctx, "announce"); err != nil {
		return err
	}
	socket, err := r.ns.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	if err := r.send(socket, fresh); err != nil {
		unix.Close(socket)
		return fmt.Errorf("announce: %w", err)
	}
	clear(r.announce)
	if !n.spawn(func() { r.repeat(n.background, socket, fresh) }) {
		unix.Close(socket)
	}
	return nil
}

// repeat sends the frames again, and closes the socket.
func (r *router) repeat(ctx context.Context, socket int, again []shout) {
	defer unix.Close(socket)
	pause := time.NewTicker(announcePause)
	defer pause.Stop()
	for range announcements - 1 {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		if err := r.send(socket, again); err != nil {
			return // the device is gone or down; coming up announces again
		}
	}
}

// send sends what may still be said. It is held up while that changes, so that nothing is
// said of an address that has gone.
func (r *router) send(socket int, all []shout) error {
	r.voice.Lock()
	defer r.voice.Unlock()
	for _, s := range all {
		if !r.mayShout[s] {
			continue
		}
		if err := unix.Sendto(socket, []byte(s.frame), 0, &unix.SockaddrLinklayer{Ifindex: s.device}); err != nil {
			return err
		}
	}
	return nil
}

// quieten says what may be said from now on.
func (r *router) quieten(to map[shout]bool) {
	r.voice.Lock()
	defer r.voice.Unlock()
	r.mayShout = to
}
