package pools

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"qlbaas/tests/bench/table"
)

// measureOurs makes pools: some that are timed, many that are weighed, and some that are
// timed among those.
func (b *bench) measureOurs(ctx context.Context) error {
	if _, err := b.createTimed(ctx); err != nil { // what comes with the first is the node's
		return err
	}
	if err := b.time(ctx, alone); err != nil {
		return err
	}
	if err := b.gather(ctx); err != nil {
		return err
	}
	return b.time(ctx, among)
}

// time makes pools one after the other.
func (b *bench) time(ctx context.Context, where string) error {
	var each []float64
	for range b.timed {
		took, err := b.createTimed(ctx)
		if err != nil {
			return err
		}
		each = append(each, milliseconds(took))
	}
	b.Log.Info("timed", "pools", b.made, "milliseconds", each)
	b.figure(table.Of(serving+where, ours, "ms", each))
	b.figure(table.Of(servingX+where, ours, "ms", []float64{percentile(each, 0.99)}))
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// percentile is the smallest value that so many of them do not exceed.
func percentile(all []float64, part float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[int(math.Ceil(part*float64(len(sorted))))-1]
}

// gather makes pools until the crowd is there, as fast as the agent can, and weighs them.
// What others do on the machine is in the difference as well: batches that do not agree
// tell of it.
func (b *bench) gather(ctx context.Context) error {
	agent, err := privateMemory(b.agent.process.Pid())
	if err != nil {
		return err
	}
	start, err := settled(ctx)
	if err != nil {
		return err
	}
	began, first, last := time.Now(), b.made, start
	var pace, batches []float64
	for b.made < b.crowd && time.Since(began) < b.longest {
		took, err := b.createSome(ctx, min(b.batch, b.crowd-b.made))
		if err != nil {
			return err
		}
		now, err := settled(ctx)
		if err != nil {
			return err
		}
		pace = append(pace, milliseconds(took)/float64(b.batch))
		batches = append(batches, (now-last)/float64(b.batch)/1e6)
		last = now
		b.Log.Info("gathered", "pools", b.made, "each", pace[len(pace)-1], "in kernel", batches[len(batches)-1])
	}
	grown, err := privateMemory(b.agent.process.Pid())
	if err != nil {
		return err
	}
	made := float64(b.made - first)
	b.figure(table.Of("create many to serving, each", ours, "ms", pace))
	b.weigh((agent/thousand+(grown-agent)/made)/1e6, (last-start)/made/1e6, batches)
	if b.made < b.crowd {
		b.note("%d pools were there after %s, %d are wanted; the memory of that many is extrapolated", b.made, b.longest, b.crowd)
	}
	return nil
}

// weigh says what one of a thousand pools takes: its share of the agent, all of whose
// memory is its pools', and what is in the kernel.
func (b *bench) weigh(share, inKernel float64, batches []float64) {
	b.figure(table.Of(whole, ours, "MB", []float64{share + inKernel}))
	b.figure(table.Of(private, ours, "MB", []float64{share}))
	b.figure(table.Of(kernel, ours, "MB", []float64{inKernel}))
	b.note("our memory is that of pools with two members each after a request, %d at a time, %d times, and a thousandth of the agent's own", b.batch, len(batches))
	b.doubt(ours, batches)
}

// createSome makes pools side by side.
func (b *bench) createSome(ctx context.Context, some int) (time.Duration, error) {
	const atOnce = 8
	began, group := time.Now(), errgroup.Group{}
	group.SetLimit(atOnce)
	for range some {
		n := b.next()
		group.Go(func() error { _, err := b.create(ctx, n); return err })
	}
	err := group.Wait()
	return time.Since(began), err
}

func (b *bench) next() int {
	b.made++
	return b.made - 1
}

// createTimed makes the next pool and says how long it took until it served.
func (b *bench) createTimed(ctx context.Context) (time.Duration, error) {
	return b.create(ctx, b.next())
}

// create makes pool, members and VIP, and returns the time from the call for the VIP to
// the first answer through it.
func (b *bench) create(ctx context.Context, n int) (time.Duration, error) {
	pool, err := b.agent.create(ctx, "lb/pools", "pool", object{
		"name": fmt.Sprint("bench", n), "subnet_id": b.agent.subnet, "protocol": "TCP", "lb_method": "ROUND_ROBIN",
	})
	if err != nil {
		return 0, err
	}
	for _, m := range b.endpoints() {
		if _, err := b.agent.create(ctx, "lb/members", "member", object{
			"pool_id": pool, "address": m.Addr().String(), "protocol_port": m.Port(), "weight": 1,
		}); err != nil {
			return 0, err
		}
	}
	at, began := netip.AddrPortFrom(vip(n), webPort), time.Now()
	visit, ctx := errgroup.WithContext(ctx)
	var served time.Time
	visit.Go(func() (err error) { served, err = b.client.await(ctx, at); return err })
	visit.Go(func() error {
		_, err := b.agent.create(ctx, "lb/vips", "vip", object{
			"name": fmt.Sprint("bench", n), "pool_id": pool, "subnet_id": b.agent.subnet, "protocol": "TCP",
			"address": at.Addr().String(), "protocol_port": at.Port(),
		})
		return err
	})
	err = visit.Wait()
	return served.Sub(began), err
}
