package loader

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/loader/announce"
)

// announcements is how often a VIP is announced: a bridge or a host may miss one
// while it is still getting to know the port.
const announcements = 3

// announcePause is the time between two announcements.
const announcePause = 500 * time.Millisecond

// announce sends the first announcement now and the others in the background,
// until there are enough or the pool has changed.
func (n *Node) announce(ctx context.Context, p *pool, b *Balancer, device int) error {
	socket, err := p.ns.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return fmt.Errorf("announce %s: %w", b.VIP.Address.Addr(), err)
	}
	var frames [][]byte
	for _, address := range append([]netip.Addr{b.VIP.Address.Addr()}, b.SNAT...) {
		frames = append(frames, announce.Frame(b.VIP.MAC, address))
	}
	send := func() error {
		for _, frame := range frames {
			if err := unix.Sendto(socket, frame, 0, &unix.SockaddrLinklayer{Ifindex: device}); err != nil {
				return err
			}
		}
		return nil
	}
	if err := n.step(ctx, "announce"); err != nil {
		unix.Close(socket)
		return err
	}
	if err := send(); err != nil {
		unix.Close(socket)
		return fmt.Errorf("announce %s: %w", b.VIP.Address.Addr(), err)
	}
	p.quiet() // what an earlier call still announces
	background, quiet := context.WithCancel(n.background)
	p.quiet = quiet
	started := n.spawn(func() {
		defer unix.Close(socket)
		pause := time.NewTicker(announcePause)
		defer pause.Stop()
		for range announcements - 1 {
			select {
			case <-background.Done():
				return
			case <-pause.C:
			}
			if err := send(); err != nil {
				return // the device is gone or down; coming up announces again
			}
		}
	})
	if !started {
		unix.Close(socket)
	}
	return nil
}
