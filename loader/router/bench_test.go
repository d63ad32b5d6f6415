package router

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"qlbaas/loader/hook"
	"qlbaas/loader/netspace"
	"qlbaas/tests/lab"
)

// The ways through the router that are compared: by programs, and by the stack, whose
// nftables translate the same addresses once the programs are off.
const wayNFT = "nftables"

const (
	benchRounds  = 7
	benchTime    = 500 * time.Millisecond
	benchWorkers = 8
	requestSize  = 200
	answerSize   = 4096
)

// rate is what one round has measured.
type rate struct{ requests, bytes float64 }

// BenchmarkFloatingIP compares requests, each on a connection of its own, and bulk bytes,
// through a floating IP, by every way in turn; what counts is the ratio of the medians:
//
//	go test ./loader/router -run '^$' -bench FloatingIP -benchtime 1x
func BenchmarkFloatingIP(b *testing.B) {
	w := newWorld(b, hook.NameTCX)
	s := w.site(1)
	s.serve(b)
	ways := []string{hook.NameTCX, hook.NameXDP, wayNFT}
	rates := map[string][]rate{}
	for range b.N {
		for range benchRounds {
			for _, way := range ways {
				rates[way] = append(rates[way], w.measure(s, way))
			}
		}
	}
	for _, way := range ways {
		requests, bulk := median(rates[way], func(r rate) float64 { return r.requests }), median(rates[way], func(r rate) float64 { return r.bytes })
		nft, bytes := median(rates[wayNFT], func(r rate) float64 { return r.requests }), median(rates[wayNFT], func(r rate) float64 { return r.bytes })
		b.ReportMetric(requests, way+"-req/s")
		b.ReportMetric(requests/nft, way+"-req-ratio")
		b.ReportMetric(bulk/1e6, way+"-MB/s")
		b.ReportMetric(bulk/bytes, way+"-MB-ratio")
	}
}

func median(all []rate, of func(rate) float64) float64 {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b rate) int { return cmp.Compare(of(a), of(b)) })
	return of(sorted[len(sorted)/2])
}

// Ports of the server: one answers requests, one takes whatever comes.
const (
	requestPort = 80
	sinkPort    = 9
)

// serve starts the site's servers.
func (s *site) serve(t testing.TB) { serveAt(t, s.server, serverAddr) }

// serveAt starts both servers on a host.
func serveAt(t testing.TB, host *lab.Host, address netip.Addr) {
	for port, handle := range map[uint16]func(net.Conn){
		requestPort: func(c net.Conn) {
			if _, err := io.ReadFull(c, make([]byte, requestSize)); err == nil {
				_, _ = c.Write(make([]byte, answerSize))
			}
		},
		sinkPort: func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
	} {
		l, err := host.Listen("tcp4", netip.AddrPortFrom(address, port).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					handle(c)
					c.Close()
				}()
			}
		}()
	}
}

// measure has the router work one way, and runs both loads.
func (w *world) measure(s *site, way string) rate {
	w.Helper()
	w.opts.Hook = way
	if way == wayNFT {
		w.opts.Hook = hook.NameTCX
	}
	n, err := Open(w.Context(), w.opts)
	w.must(err)
	defer n.Close()
	w.apply(n, s.Router)
	if way == wayNFT {
		ns, err := netspace.Open(namespaceName(s.ID))
		w.must(err)
		defer ns.Close()
		for _, l := range s.legs() {
			w.must(w.detach(ns, pinsDir(w.opts.BPFFS, s.ID), l))
		}
	}
	w.reaches(w.client, s.floating(), s)
	before, err := n.Stats(s.ID)
	w.must(err)
	r := rate{w.requests(w.client, s.Floating[0].Address, benchWorkers, nil), w.bulkRate(s)}
	after, err := n.Stats(s.ID)
	w.must(err)
	if byProgram := after.Floating[0].PacketsIn - before.Floating[0].PacketsIn; (byProgram > 100) == (way == wayNFT) {
		w.Fatalf("%s: %d packets went through a program", way, byProgram)
	}
	return r
}

// requests returns how many were answered in a second, each on a connection of its own;
// told hears how long each one took.
func (w *world) requests(from *lab.Host, to netip.Addr, workers int, told func(time.Duration)) float64 {
	w.Helper()
	var answered atomic.Int64
	w.load(workers, func(ctx context.Context) error {
		began := time.Now()
		c, err := from.Dial(ctx, "tcp4", netip.AddrPortFrom(to, requestPort).String())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write(make([]byte, requestSize)); err != nil {
			return err
		}
		if n, err := io.Copy(io.Discard, c); err != nil || n != answerSize {
			return fmt.Errorf("answer of %d bytes: %w", n, err)
		}
		if told != nil {
			told(time.Since(began))
		}
		// No TIME-WAIT, or the ports would be used up.
		_ = c.(*net.TCPConn).SetLinger(0)
		answered.Add(1)
		return nil
	})
	return float64(answered.Load()) / benchTime.Seconds()
}

// bulkRate returns how many bytes a second one connection carries.
func (w *world) bulkRate(s *site) float64 {
	w.Helper()
	var sent atomic.Int64
	var conn net.Conn
	w.load(1, func(ctx context.Context) (err error) {
		if conn == nil {
			if conn, err = w.client.Dial(ctx, "tcp4", netip.AddrPortFrom(s.Floating[0].Address, sinkPort).String()); err != nil {
				return err
			}
		}
		n, err := conn.Write(make([]byte, 1<<17))
		sent.Add(int64(n))
		return err
	})
	conn.Close()
	return float64(sent.Load()) / benchTime.Seconds()
}

// load repeats work side by side for a time.
func (w *world) load(workers int, work func(context.Context) error) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	var group sync.WaitGroup
	end := time.Now().Add(benchTime)
	for range workers {
		group.Go(func() {
			for time.Now().Before(end) {
				if err := work(ctx); err != nil {
					w.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}
