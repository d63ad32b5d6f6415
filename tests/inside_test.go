package tests

import (
	"errors"
	"fmt"
	"net"
	"time"

	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

// fromInside: the VIP is an address of its own namespace, and what is sent to it from
// there never comes in by the device where the programs are. The guard keeps the stack
// from answering, so there is silence. The namespace's sockets reach members, as probes do.
func fromInside(w *world) {
	rows.Proves(w.t, 103, 104)
	b := w.balance(balancerOptions{})
	err := lab.Within(b.netns(), func() error {
		conn, err := net.DialTimeout("tcp", b.at.String(), time.Second/2)
		if err == nil {
			conn.Close()
			return fmt.Errorf("connected to %s", b.at)
		}
		if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
			return fmt.Errorf("%w: want silence", err)
		}
		for _, e := range w.endpoints(webPort) {
			conn, err := net.DialTimeout("tcp", e.String(), patience)
			if err != nil {
				return err
			}
			if err := conn.Close(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
	stats := b.stats()
	for _, name := range []string{"total_connections", "active_connections", "bytes_in", "bytes_out"} {
		if n := stats.number(name); n != 0 {
			w.t.Errorf("%s is %v, though no client was there", name, n)
		}
	}
	b.ask(2)
}
