package tests

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
	"qlbaas/tests/lab"
	"qlbaas/tests/rows"
)

// connectAtOnce is less than the second after which TCP sends a lost SYN again, however
// busy the machine.
const connectAtOnce = 900 * time.Millisecond

// TestPortsAreUsedAgain: clients use their few ports again and again, and the balancer its
// own, while members still hold the connections before in TIME-WAIT. Nobody waits for that.
func TestPortsAreUsedAgain(t *testing.T) {
	rows.Proves(t, 54, 66, 67)
	w := newWorld(t, "auto", lab.TutorialOptions{})
	goodbye := w.sayGoodbye(9)
	b := w.balance(balancerOptions{endpoints: w.endpoints(9)})
	r := rand.New(rand.NewPCG(seed(t), 0))
	before := w.paws()
	const sources, rounds = 200, 10
	tries, late, longest := 0, 0, time.Duration(0)
	all := w.fewPorts(sources)
	for round := range rounds {
		if round == rounds/2 {
			// From here on closed flows are gone when their clients come again, and
			// somebody else gets their ports: a table without room gives them back soon.
			b.setVIP(object{"flow_limit": sources})
		}
		b.rewindPorts()
		r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, from := range all {
			took, err := b.hello(from)
			tries++
			longest = max(longest, took)
			if err != nil || took > connectAtOnce {
				late++
				t.Errorf("connection %d, from %s, took %s: %v", tries, from, took, err)
			}
		}
	}
	waiting := w.timeWait()
	met := tries - waiting
	if met < tries/4 {
		t.Errorf("members hold %d connections in TIME-WAIT after %d: none of their ports was used again", waiting, tries)
	}
	refused := 0
	for name, n := range w.paws() {
		if n -= before[name]; n != 0 {
			refused += n
			t.Errorf("members refused %d segments: %s", n, name)
		}
	}
	report(t, numbers{
		"tries": tries, "failures": late + refused, "sources": sources, "longest_ms": milliseconds(longest),
		"met_time_wait": met, "paws_refused": refused, "said_goodbye": goodbye(),
	})
}

// sayGoodbye starts servers on all members that say one word and close first.
func (w *world) sayGoodbye(port uint16) (served func() int) {
	w.t.Helper()
	count := make(chan int, 1)
	count <- 0
	for _, e := range w.endpoints(port) {
		host := w.Members[0].Host
		for _, m := range w.Members {
			if m.Address == e.Addr() {
				host = m.Host
			}
		}
		l, err := host.Listen("tcp", e.String())
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, "bye") // who did not get it says so
				_ = c.Close()
				count <- <-count + 1
			}
		}()
	}
	return func() int { n := <-count; count <- n; return n }
}

// fewPorts are the sources that clients use: two addresses, whose timestamps have nothing
// to do with each other.
func (w *world) fewPorts(n int) (all []netip.AddrPort) {
	for i, a := range w.clients(2) {
		for j := range (n + i) / 2 {
			all = append(all, netip.AddrPortFrom(a, uint16(20000+j)))
		}
	}
	return all
}

// hello connects, waits for the member's word and its end, and returns how long connecting
// took.
func (b *balancer) hello(from netip.AddrPort) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	var c net.Conn
	begin := time.Now()
	c, err = b.w.Client.DialFrom(ctx, from, "tcp", b.at.String())
	took = time.Since(begin)
	if err != nil {
		return took, err
	}
	defer c.Close()
	if err := c.SetDeadline(begin.Add(requestTimeout)); err != nil {
		return took, err
	}
	word, err := io.ReadAll(c)
	if err == nil && string(word) != "bye" {
		err = fmt.Errorf("the member said %q", word)
	}
	return took, err
}

// rewindPorts lets every member's next port be the first one, as after 64,000 connections.
func (b *balancer) rewindPorts() {
	b.w.t.Helper()
	paths, err := filepath.Glob(b.pin("maps", "member_states_*"))
	if err != nil || len(paths) == 0 {
		b.w.t.Fatalf("the ports are not to be found: %v", err)
	}
	for _, path := range paths {
		m, err := ebpf.LoadPinnedMap(path, nil)
		if err != nil {
			b.w.t.Fatal(err)
		}
		defer m.Close()
		var state bpf.Lb4MemberState
		if err := m.Lookup(uint32(0), &state); err != nil {
			b.w.t.Fatal(err)
		}
		state.PortCursor = 0
		if err := m.Put(uint32(0), &state); err != nil {
			b.w.t.Fatal(err)
		}
	}
}

// paws are the members' counts of segments that were refused for their timestamps.
func (w *world) paws() map[string]int {
	w.t.Helper()
	sum := map[string]int{}
	for _, m := range w.Members {
		for name, n := range w.netstat(m.Host) {
			if strings.HasPrefix(name, "PAWS") {
				sum[name] += n
			}
		}
	}
	return sum
}

// netstat are a host's counters of its TCP, by name.
func (w *world) netstat(h *lab.Host) map[string]int {
	w.t.Helper()
	var text []byte
	err := h.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	counts := map[string]int{}
	lines := strings.Split(string(text), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		for j := 1; j < len(names) && j < len(values); j++ {
			counts[names[j]], _ = strconv.Atoi(values[j])
		}
	}
	return counts
}

// timeWait is how many connections the members hold in TIME-WAIT.
func (w *world) timeWait() (n int) {
	w.t.Helper()
	for _, m := range w.Members {
		out, err := m.Host.Run(bounded(w.t, patience), "ss", "-Htan", "state", "time-wait")
		if err != nil {
			w.t.Fatal(err)
		}
		n += strings.Count(out, "\n")
	}
	return n
}
