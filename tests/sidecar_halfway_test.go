package tests

import (
	"fmt"
	"time"
)

// sidecarHalfway: the agent may die at any moment of a switch, and no client notices; the
// next agent ends what was begun.
func sidecarHalfway(w *world) {
	b := w.balanceByCookie(balancerOptions{})
	load := b.load(400)
	by := any(nil)
	for _, moment := range []time.Duration{0, 2, 5, 10, 20, 40, 150, 320} {
		w.update(vips, b.vip, object{"session_persistence": by})
		select {
		case <-w.process.Exited():
			w.t.Fatal("the agent has ended")
		case <-time.After(moment * time.Millisecond): // which is the subject
		}
		w.restart()
		b.settle()
		if by != nil {
			b.sidecar()
			by = nil
			continue
		}
		until(w.t, patience, func() error {
			if s := w.status(b.id)["sidecar"]; s != nil {
				return fmt.Errorf("its sidecar is still %v", s)
			}
			return nil
		})
		by = object{"type": "HTTP_COOKIE"}
	}
	load.end(w)
	w.only(b.askBy(w.browser(false), 4))
}
