package traffic

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// load is how wrk is used.
type load struct {
	connections int
	// close asks for a connection per request.
	close bool
	// alone keeps everything on one CPU.
	alone   bool
	seconds int
	// clients share the connections; 0 means one of them has all.
	clients int
}

// sample is what one run of wrk has measured.
type sample struct {
	requests, rate float64
	p50, p99       float64 // µs, of a request
	took           float64 // µs, a request and what goes with it on its connection
	busy           float64 // µs of all CPUs per request
	rejects        uint64
	counts         counts
	trouble        string // what wrk says of errors
}

// warmth is how long somebody runs before it counts. wrk looks for its end every 100 ms.
const warmth = 250 * time.Millisecond

// run measures a subject.
func (l *laboratory) run(ctx context.Context, s *subject, how load) (m sample, err error) {
	if len(s.requests) > 1 && how.connections == 1 {
		one := *s
		one.requests = s.requests[:1]
		s = &one
	}
	var before, after counts
	var rejected [2]uint64
	if rejected[0], err = l.rejects(); err != nil {
		return m, err
	}
	if s.inspect != nil {
		if before, err = s.inspect(); err != nil {
			return m, err
		}
	}
	began, err := readClock()
	if err != nil {
		return m, err
	}
	if m, err = l.wrk(ctx, s.requests, how); err != nil {
		return m, err
	}
	ended, err := readClock()
	if err != nil {
		return m, err
	}
	if s.inspect != nil {
		if after, err = s.inspect(); err != nil {
			return m, err
		}
	}
	if rejected[1], err = l.rejects(); err != nil {
		return m, err
	}
	m.busy = ended.busy(began).Seconds() * 1e6 / m.requests
	m.took = 1e6 * float64(how.connections) / m.rate
	m.counts, m.rejects = after.since(before), rejected[1]-rejected[0]
	return m, nil
}

// wrk runs it at the clients and returns what they have measured together.
func (l *laboratory) wrk(ctx context.Context, targets []netip.AddrPort, how load) (sample, error) {
	clients := l.clients[:max(how.clients, 1)]
	how.connections /= len(clients)
	args, err := l.wrkArguments(targets, how, fmt.Sprintf("-d%ds", how.seconds))
	if err != nil {
		return sample{}, err
	}
	parts, errs := make([]sample, len(clients)), make([]error, len(clients))
	var running sync.WaitGroup
	for i, c := range clients {
		running.Go(func() {
			said, err := c.Run(ctx, args[0], args[1:]...)
			if err == nil {
				parts[i], err = parse(said)
			}
			errs[i] = err
		})
	}
	running.Wait()
	return together(parts), errors.Join(errs...)
}

// together adds what clients have measured side by side; the slower one's times count.
func together(parts []sample) (all sample) {
	for _, m := range parts {
		all.requests += m.requests
		all.rate += m.rate
		all.p50, all.p99 = max(all.p50, m.p50), max(all.p99, m.p99)
		all.trouble += m.trouble
	}
	return all
}

// warm lets wrk run for a moment.
func (l *laboratory) warm(ctx context.Context, s *subject, how load) error {
	targets := s.requests
	if how.connections == 1 {
		targets = targets[:1]
	}
	args, err := l.wrkArguments(targets, how, "-d60s")
	if err != nil {
		return err
	}
	p, err := l.clients[0].Start(exec.Command(args[0], args[1:]...))
	if err != nil {
		return err
	}
	timer := time.NewTimer(warmth)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	if err := p.Signal(unix.SIGINT); err != nil {
		return err
	}
	return p.Wait(ctx)
}

// lastCPU is the one that everything runs on in rows on one CPU.
func lastCPU() int { return runtime.NumCPU() - 1 }

func (l *laboratory) wrkArguments(targets []netip.AddrPort, how load, time string) ([]string, error) {
	args := []string{"wrk", "--latency", time, fmt.Sprint("-c", how.connections), fmt.Sprint("-t", min(how.connections, memberCount))}
	if how.alone {
		args = append([]string{"taskset", "-c", strconv.Itoa(lastCPU())}, args...)
	}
	if how.close {
		args = append(args, "-H", "Connection: close")
	}
	if len(targets) > 1 {
		script, err := l.spread(targets)
		if err != nil {
			return nil, err
		}
		args = append(args, "-s", script)
	}
	return append(args, "http://"+targets[0].String()+"/"+requestFile), nil
}

// spread writes a script that gives each thread a target of its own.
func (l *laboratory) spread(targets []netip.AddrPort) (string, error) {
	var script strings.Builder
	script.WriteString("local targets, n = {}, 0\n")
	for _, t := range targets {
		fmt.Fprintf(&script, "table.insert(targets, {%q, \"%d\"})\n", t.Addr(), t.Port())
	}
	script.WriteString(`function setup(thread)
	local t = targets[n % #targets + 1]
	thread.addr = wrk.lookup(t[1], t[2])[1]
	n = n + 1
end
`)
	path := filepath.Join(l.dir, "spread.lua")
	return path, os.WriteFile(path, []byte(script.String()), 0o644)
}

var (
	saidRequests = regexp.MustCompile(`(\d+) requests in`)
	saidRate     = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	saidP50      = regexp.MustCompile(`50%\s+([\d.]+)(us|ms|s)`)
	saidP99      = regexp.MustCompile(`99%\s+([\d.]+)(us|ms|s)`)
	saidTrouble  = regexp.MustCompile(`Non-2xx.*|Socket errors.*`)
)

// parse reads what wrk says.
func parse(said string) (m sample, err error) {
	number := func(from *regexp.Regexp) float64 {
		found := from.FindStringSubmatch(said)
		if found == nil {
			err = errors.Join(err, fmt.Errorf("wrk says nothing of %s: %s", from, said))
			return 0
		}
		n, wrong := strconv.ParseFloat(found[1], 64)
		err = errors.Join(err, wrong)
		if len(found) > 2 {
			n *= map[string]float64{"us": 1, "ms": 1e3, "s": 1e6}[found[2]]
		}
		return n
	}
	m = sample{requests: number(saidRequests), rate: number(saidRate), p50: number(saidP50), p99: number(saidP99)}
	m.trouble = strings.Join(saidTrouble.FindAllString(said, -1), "; ")
	if err == nil && (m.requests == 0 || m.rate == 0) {
		err = fmt.Errorf("nothing was answered: %s", said)
	}
	return m, err
}
