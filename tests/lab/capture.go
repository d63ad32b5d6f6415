package lab

import (
	"context"
	"fmt"
	"io"
	"sync"

	"qlbaas/tests/packet"
	"qlbaas/tests/packet/afpacket"
)

// captured is how many of the last frames a Capture keeps.
const captured = 20

// Capture keeps the last frames that passed a device, both ways, for Dump. It
// costs time for each frame, so it is for tests that look for something.
type Capture struct {
	host, device string
	socket       *afpacket.Socket
	cancel       context.CancelFunc
	done         chan struct{}

	mu   sync.Mutex
	seen int
	ring [captured]string
}

// Capture begins to watch a device; the lab ends it.
func (h *Host) Capture(device string) (*Capture, error) {
	c := &Capture{host: h.name, device: device, done: make(chan struct{})}
	err := h.Do(func() (err error) {
		c.socket, err = afpacket.Open(device, afpacket.Options{Outgoing: true})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	go c.watch(ctx)
	h.lab.own(c)
	h.lab.mu.Lock()
	defer h.lab.mu.Unlock()
	h.lab.captures = append(h.lab.captures, c)
	return c, nil
}

func (c *Capture) watch(ctx context.Context) {
	defer close(c.done)
	for {
		f, err := c.socket.Receive(ctx)
		if err != nil {
			return // closed, or the device is gone
		}
		way := "in "
		if f.Outgoing {
			way = "out"
		}
		c.mu.Lock()
		c.ring[c.seen%captured] = way + " " + packet.Summary(f.Bytes)
		c.seen++
		c.mu.Unlock()
	}
}

// Close ends the capture.
func (c *Capture) Close() error {
	c.cancel()
	<-c.done
	return c.socket.Close()
}

// write prints what is kept, oldest first.
func (c *Capture) write(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(w, "\n=== last of %d frames on %s %s\n", c.seen, c.host, c.device)
	for i := max(0, c.seen-captured); i < c.seen; i++ {
		fmt.Fprintln(w, c.ring[i%captured])
	}
}
