package pools

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"qlbaas/tests/bench/table"
	"qlbaas/tests/lab"
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
	for b.made+b.batch <= b.crowd && time.Since(began) < b.longest {
		took, err := b.createSome(ctx, b.batch)
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
	b.figure(table.Of("create many, each", ours, "ms", pace))
	b.weigh((agent/thousand+(grown-agent)/made)/1e6, (last-start)/made/1e6, batches)
	if b.made < thousand {
		b.note("%d pools were there when no more were made; what a thousand take is extrapolated", b.made)
	}
	return nil
}

// weigh says what one of a thousand pools takes: its share of the agent, all of whose
// memory is its pools', and what is in the kernel.
func (b *bench) weigh(share, inKernel float64, batches []float64) {
	b.figure(table.Of(whole, ours, "MB", []float64{share + inKernel}))
	b.figure(table.Of(private, ours, "MB", []float64{share}))
	b.figure(table.Of(kernel, ours, "MB", []float64{inKernel}))
	b.note("our memory is that of pools with two members each that nobody has used yet, %d at a time, %d times, and a thousandth of the agent's own", b.batch, len(batches))
	b.doubt(ours, batches)
}

// createSome makes pools side by side, and returns when all are deployed.
func (b *bench) createSome(ctx context.Context, some int) (time.Duration, error) {
	const atOnce = 8
	began, group := time.Now(), errgroup.Group{}
	group.SetLimit(atOnce)
	for range some {
		n := b.next()
		group.Go(func() error { return b.createIdle(ctx, n) })
	}
	err := group.Wait()
	return time.Since(began), err
}

func (b *bench) next() int {
	b.made++
	return b.made - 1
}

// createTimed makes the next pool and says how long it took from the call for its VIP to
// the first answer through that.
func (b *bench) createTimed(ctx context.Context) (time.Duration, error) {
	n := b.next()
	pool, err := b.prepare(ctx, n)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	visit, waiting := errgroup.WithContext(ctx)
	var served time.Time
	var made object
	visit.Go(func() (err error) {
		served, err = b.client.await(waiting, netip.AddrPortFrom(vip(n), webPort), often)
		return err
	})
	visit.Go(func() (err error) { made, err = b.createVIP(waiting, n, pool); return err })
	if err := visit.Wait(); err != nil {
		return 0, err
	}
	return served.Sub(began), b.introduce(ctx, vip(n), made["port_id"])
}

// createIdle makes a pool and waits until it is deployed.
func (b *bench) createIdle(ctx context.Context, n int) error {
	pool, err := b.prepare(ctx, n)
	if err != nil {
		return err
	}
	made, err := b.createVIP(ctx, n, pool)
	if err != nil {
		return err
	}
	if err := b.agent.awaitActive(ctx, "/v2.0/lb/vips/"+made["id"].(string)); err != nil {
		return err
	}
	return b.introduce(ctx, vip(n), made["port_id"])
}

// prepare makes a pool with members, which is nothing yet without a VIP.
func (b *bench) prepare(ctx context.Context, n int) (pool any, _ error) {
	made, err := b.agent.create(ctx, "lb/pools", "pool", object{
		"name": fmt.Sprint("bench", n), "subnet_id": b.agent.subnet, "protocol": "TCP", "lb_method": "ROUND_ROBIN",
	})
	if err != nil {
		return nil, err
	}
	for _, m := range b.endpoints() {
		if _, err := b.agent.create(ctx, "lb/members", "member", object{
			"pool_id": made["id"], "address": m.Addr().String(), "protocol_port": m.Port(), "weight": 1,
		}); err != nil {
			return nil, err
		}
	}
	return made["id"], nil
}

func (b *bench) createVIP(ctx context.Context, n int, pool any) (object, error) {
	return b.agent.create(ctx, "lb/vips", "vip", object{
		"name": fmt.Sprint("bench", n), "pool_id": pool, "subnet_id": b.agent.subnet, "protocol": "TCP",
		"address": vip(n).String(), "protocol_port": webPort,
	})
}

// introduce lets router and members know the VIP for good. All hosts are on one machine
// here, whose kernel has room for a thousand neighbours that come and go, of all of them
// together.
func (b *bench) introduce(ctx context.Context, vip netip.Addr, port any) error {
	found, err := b.agent.call(ctx, http.MethodGet, fmt.Sprint("/v2.0/ports/", port), "", nil)
	if err != nil {
		return err
	}
	inner, _ := found["port"].(object)
	text, _ := inner["mac_address"].(string)
	mac, err := net.ParseMAC(text)
	if err != nil {
		return fmt.Errorf("read port %v: %w", port, err)
	}
	hosts := map[*lab.Host]string{b.Router: "inside"}
	for _, m := range b.Members {
		hosts[m.Host] = lab.Uplink
	}
	b.introducing.Lock()
	defer b.introducing.Unlock()
	for host, name := range hosts {
		device, err := host.Netlink().LinkByName(name)
		if err == nil {
			err = host.Netlink().NeighSet(&netlink.Neigh{
				LinkIndex: device.Attrs().Index, State: netlink.NUD_PERMANENT, IP: vip.AsSlice(), HardwareAddr: mac,
			})
		}
		if err != nil {
			return fmt.Errorf("introduce %s to %s: %w", vip, host.Name(), err)
		}
	}
	return nil
}
