package tests

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// requestTimeout bounds one request. A lost SYN is sent again after a second, so a
// request that needs that still succeeds, and shows.
const requestTimeout = 10 * time.Second

// url is where clients find the balancer.
func (b *balancer) url() string { return b.scheme + "://" + b.at.String() }

// ask makes n requests one after the other, each over a connection of its own, and
// returns the members' names in the order of their answers.
func (b *balancer) ask(n int) []string {
	b.w.t.Helper()
	return b.askBy(b.client, n)
}

// askBy is ask by another client.
func (b *balancer) askBy(client *http.Client, n int) []string {
	b.w.t.Helper()
	var names []string
	for range n {
		name, err := b.request(client)
		if err != nil {
			b.w.t.Fatalf("after %d answers: %v", len(names), err)
		}
		names = append(names, name)
	}
	return names
}

// askFrom is ask from one of the client's addresses.
func (b *balancer) askFrom(address netip.Addr, n int) []string {
	b.w.t.Helper()
	return b.askBy(b.w.Client.HTTPClient(lab.HTTPOptions{Local: address}), n)
}

// request asks once.
func (b *balancer) request(client *http.Client) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	code, body, err := lab.Get(ctx, client, b.url()+"/")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("get %s: %d: %s", b.url(), code, body)
	}
	return strings.TrimSpace(body), err
}

// tally counts names.
func tally(names []string) map[string]int {
	n := map[string]int{}
	for _, name := range names {
		n[name]++
	}
	return n
}

// inTurn returns nil if names repeats the cycle, beginning anywhere in it.
func inTurn(names []string, cycle ...string) error {
	for shift := range cycle {
		same := true
		for i, name := range names {
			same = same && name == cycle[(shift+i)%len(cycle)]
		}
		if same {
			return nil
		}
	}
	return fmt.Errorf("%v is not a repetition of %v", names, cycle)
}

// flow is a connection to an echo server, held open.
type flow struct {
	conn   net.Conn
	reader *bufio.Reader
	// member is the name that the server has said.
	member string
}

// echoTimeout bounds one word there and back; a lost segment is sent again within it.
const echoTimeout = 10 * time.Second

// dial connects to the balancer and reads the member's name.
func (b *balancer) dial(ctx context.Context, from *lab.Host, local netip.Addr) (*flow, error) {
	var address netip.AddrPort
	if local.IsValid() {
		address = netip.AddrPortFrom(local, 0)
	}
	conn, err := from.DialFrom(ctx, address, "tcp", b.at.String())
	if err != nil {
		return nil, err
	}
	return newFlow(conn)
}

// newFlow reads the member's name.
func newFlow(conn net.Conn) (*flow, error) {
	f := &flow{conn: conn, reader: bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(echoTimeout)) // fails only on a closed one
	name, err := f.reader.ReadString('\n')
	if err != nil {
		conn.Close()
		return nil, err
	}
	f.member = strings.TrimSpace(name)
	return f, nil
}

// open opens a connection from the client that has to succeed, and is closed when
// the test ends.
func (b *balancer) open() *flow {
	b.w.t.Helper()
	return b.openFrom(b.w.Client, netip.Addr{})
}

func (b *balancer) openFrom(from *lab.Host, local netip.Addr) *flow {
	b.w.t.Helper()
	f, err := b.dial(bounded(b.w.t, requestTimeout), from, local)
	if err != nil {
		b.w.t.Fatal(err)
	}
	b.w.t.Cleanup(f.close)
	return f
}

// openMany opens n connections.
func (b *balancer) openMany(n int) []*flow {
	b.w.t.Helper()
	var all []*flow
	for range n {
		all = append(all, b.open())
	}
	return all
}

// close may be called twice.
func (f *flow) close() { f.conn.Close() }

// echo sends a word and waits until it comes back.
func (f *flow) echo() error {
	if err := f.conn.SetDeadline(time.Now().Add(echoTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(f.conn, "are you there?\n"); err != nil {
		return err
	}
	back, err := f.reader.ReadString('\n')
	if err == nil && back != "are you there?\n" {
		err = fmt.Errorf("echo of %s: %q", f.member, back)
	}
	return err
}

// mustEcho wants all connections alive.
func (w *world) mustEcho(flows ...*flow) {
	w.t.Helper()
	for i, f := range flows {
		if err := f.echo(); err != nil {
			w.t.Fatalf("connection %d of %d, to %s: %v", i+1, len(flows), f.member, err)
		}
	}
}

// refused wants a connection to be answered with a RST, at once: to the first SYN.
func (b *balancer) refused(reason string) {
	b.w.t.Helper()
	before := b.drops(reason)
	f, err := b.dial(bounded(b.w.t, requestTimeout), b.w.Client, netip.Addr{})
	if err == nil {
		f.close()
		b.w.t.Fatalf("connected to %s, want a RST for %s", f.member, reason)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		b.w.t.Fatalf("%v, want a RST for %s", err, reason)
	}
	if n := b.drops(reason) - before; n != 1 {
		b.w.t.Errorf("%v packets were dropped as %s, want the one SYN", n, reason)
	}
}

// dialing is a connection that is being made.
type dialing chan dialed

type dialed struct {
	conn net.Conn
	err  error
}

// begin starts to connect. Whether the member speaks is another question: a client
// is connected as soon as its SYN was answered.
func (b *balancer) begin(ctx context.Context) dialing {
	d := make(dialing, 1)
	go func() {
		conn, err := b.w.Client.Dial(ctx, "tcp", b.at.String())
		d <- dialed{conn, err}
	}()
	return d
}

// pending wants the client not to be connected yet.
func (d dialing) pending(w *world) {
	w.t.Helper()
	select {
	case r := <-d:
		if r.err != nil {
			w.t.Fatalf("the connection has ended: %v", r.err)
		}
		r.conn.Close()
		w.t.Fatal("the connection was made")
	default:
	}
}

// made wants the connection to be there soon, and to lead to a member.
func (d dialing) made(w *world) *flow {
	w.t.Helper()
	r := <-d
	if r.err != nil {
		w.t.Fatal(r.err)
	}
	f, err := newFlow(r.conn)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(f.close)
	return f
}

// load asks the balancer again and again until it is told to stop.
type load struct {
	stop   chan struct{}
	result chan loadResult
}

type loadResult struct {
	answers int
	errs    []error
}

// loadWorkers is how many requests of a load are under way at a time.
const loadWorkers = 4

// load starts to ask the balancer, at least n times altogether.
func (b *balancer) load(n int) *load {
	l := &load{stop: make(chan struct{}), result: make(chan loadResult, loadWorkers)}
	for range loadWorkers {
		go func() {
			var r loadResult
			for r.answers+len(r.errs) < n/loadWorkers || !closed(l.stop) {
				if _, err := b.request(b.client); err != nil {
					r.errs = append(r.errs, err)
					continue
				}
				r.answers++
			}
			l.result <- r
		}()
	}
	return l
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// end waits until the load has asked enough, and wants that none was lost. It returns how
// many requests were answered.
func (l *load) end(w *world) (answers int) {
	w.t.Helper()
	close(l.stop)
	for range loadWorkers {
		r := <-l.result
		answers += r.answers
		for _, err := range r.errs {
			w.t.Errorf("lost: %v", err)
		}
	}
	w.t.Logf("%d requests were answered", answers)
	return answers
}
