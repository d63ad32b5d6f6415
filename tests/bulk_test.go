package tests

import (
	"net/http"
	"testing"
	"time"

	"qlbaas/tests/lab"
)

// TestBulk: a hundred million bytes each way arrive as they were sent, whoever
// computes checksums and cuts segments.
func TestBulk(t *testing.T) {
	for name, offload := range map[string]lab.Offload{"offload on": {}, "offload off": lab.AllOff()} {
		t.Run(name, func(t *testing.T) {
			options := lab.TutorialOptions{Member: offload, Ports: offload}
			onEveryHook(t, options, func(w *world) {
				b := w.balance(balancerOptions{})
				w.bulkBy(b, b.client, 100<<20)
			})
		})
	}
}

// bulkBy moves size bytes down and up, and compares them.
func (w *world) bulkBy(b *balancer, client *http.Client, size int64) {
	w.t.Helper()
	ctx := bounded(w.t, time.Minute)
	before, start := b.stats(), time.Now()
	if err := lab.Download(ctx, client, b.url(), size, 1); err != nil {
		w.t.Error(err)
	}
	down := time.Since(start)
	if err := lab.Upload(ctx, client, b.url(), size, 2); err != nil {
		w.t.Error(err)
	}
	w.t.Logf("%d bytes: down %s, up %s", size, down, time.Since(start)-down)
	b.awaitActive(0)
	after := b.stats()
	for _, direction := range []string{"bytes_in", "bytes_out"} {
		n := after.number(direction) - before.number(direction)
		// Headers and acknowledgments are less than a tenth of what full segments carry;
		// what a path with a smaller MTU did not take is sent twice.
		const again = 64 << 10
		if n < float64(size) || n > 1.1*float64(size)+again {
			w.t.Errorf("%s grew by %v for %d bytes", direction, n, size)
		}
	}
}
