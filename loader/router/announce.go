package router

import (
	"context"
	"fmt"
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
	frame  []byte
	device int
}

// announceAll tells the networks of the addresses that have come to this router: once now
// and again in the background, until there are enough or the router has changed.
func (n *Node) announceAll(ctx context.Context, r *router, wires []*wire) error {
	var shouts []shout
	for _, w := range wires {
		for a := range r.announce[w.leg.PortID] {
			shouts = append(shouts, shout{announce.Frame(w.leg.MAC, a), w.inside.Attrs().Index})
		}
	}
	if len(shouts) == 0 {
		return nil
	}
	if err := n.step(ctx, "announce"); err != nil {
		return err
	}
	socket, err := r.ns.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	if err := send(socket, shouts); err != nil {
		unix.Close(socket)
		return fmt.Errorf("announce: %w", err)
	}
	background, quiet := context.WithCancel(n.background)
	// Addresses of an earlier call that are still being announced stay so: each call has
	// its own, and only removal ends all.
	earlier := r.quiet
	r.quiet = func() { earlier(); quiet() }
	clear(r.announce)
	if !n.spawn(func() { repeat(background, socket, shouts) }) {
		unix.Close(socket)
	}
	return nil
}

// repeat sends the frames again, and closes the socket.
func repeat(ctx context.Context, socket int, shouts []shout) {
	defer unix.Close(socket)
	pause := time.NewTicker(announcePause)
	defer pause.Stop()
	for range announcements - 1 {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		if err := send(socket, shouts); err != nil {
			return // the device is gone or down; coming up announces again
		}
	}
}

func send(socket int, shouts []shout) error {
	for _, s := range shouts {
		if err := unix.Sendto(socket, s.frame, 0, &unix.SockaddrLinklayer{Ifindex: s.device}); err != nil {
			return err
		}
	}
	return nil
}
