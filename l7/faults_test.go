package l7_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"

	"qlbaas/l7/pool"
	"qlbaas/l7/proxy"
	"qlbaas/tests/lab"
)

// A client that comes by IPv6.
func TestIPv6(t *testing.T) {
	w := newWorld(t, 1)
	for address, h := range map[string]struct {
		host   *lab.Host
		device string
	}{
		"fd00:1::2/64": {w.client, "eth0"}, "fd00:1::1/64": {w.balancer, "out"}, "fd00:2::1/64": {w.balancer, "in"},
		"fe80::1/64": {w.balancer, "in"}, // neighbours are asked from here: the source is another link's
	} {
		w.must(h.host.AddAddress(h.device, netip.MustParsePrefix(address)))
	}
	w.must(w.members.AddAddress("eth0", netip.MustParsePrefix("fd00:2::10/64")))
	w.must(w.members.AddRoute(netip.MustParsePrefix("fd00:1::/64"), netip.MustParseAddr("fd00:2::1")))
	listener, err := w.balancer.Listen("tcp", "[fd00:1::1]:80")
	w.must(err)
	w.must(w.clients.Close())
	w.clients, w.from = listener.(*net.TCPListener), netip.MustParseAddr("fd00:1::1")
	w.start()
	c := basic(1)
	c.Pool.Members[0].Address = netip.MustParseAddrPort("[fd00:2::10]:80")
	w.apply(c)
	member, err := w.members.Listen("tcp", "[fd00:2::10]:80")
	w.must(err)
	server := &http.Server{Handler: http.HandlerFunc(func(out http.ResponseWriter, q *http.Request) {
		fmt.Fprint(out, q.RemoteAddr, " ", q.Header.Get("X-Forwarded-For"))
	})}
	go func() { _ = server.Serve(member) }() // until it is closed
	t.Cleanup(func() { server.Close() })
	a, err := w.client.HTTPClient(lab.HTTPOptions{}).Get("http://[fd00:1::1]/")
	w.must(err)
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	w.must(err)
	if from, via, _ := strings.Cut(string(body), " "); !strings.HasPrefix(from, "[fd00:1::1]:") || via != "fd00:1::2" {
		t.Errorf("the member sees %s", body)
	}
}

// The sidecar outlives whoever reads its log.
func TestNobodyReadsTheLog(t *testing.T) {
	w := newWorld(t, 1)
	reader, writer, err := os.Pipe()
	w.must(err)
	w.stderr = writer
	w.start()
	w.must(writer.Close())
	w.must(reader.Close())
	w.apply(basic(1))
	w.nginx(1)
	for range 10 { // each makes it say something
		conn, err := net.Dial("unix", w.path())
		w.must(err)
		_, err = io.WriteString(conn, `{"op":"handover"}`+"\n")
		w.must(err)
		w.must(conn.Close())
		w.stats()
	}
	a, _ := w.get(w.client.HTTPClient(lab.HTTPOptions{}), "/who", nil)
	if a.StatusCode != http.StatusOK {
		t.Errorf("%d", a.StatusCode)
	}
}

// faulty panics for whoever presents a cookie.
type faulty struct{ *pool.Pool }

func (f faulty) Choose(q *pool.Query) (pool.Choice, error) {
	if q.Cookies > 0 {
		panic("deliberate")
	}
	return f.Pool.Choose(q)
}

// A fault that one request meets ends that client's connection and nothing else.
func TestFaultEndsOneClient(t *testing.T) {
	w := newWorld(t, 1)
	p := pool.New()
	c := basic(0).Pool
	w.must(p.Apply(c))
	s := proxy.New(faulty{p}, netip.Addr{}, slog.New(slog.DiscardHandler))
	done := make(chan error, 1)
	go func() { done <- s.Serve(t.Context(), w.clients) }()
	lasting, in := w.connect(w.context())
	for range 3 {
		conn, answer := w.connect(w.context())
		_, err := io.WriteString(conn, get+"Cookie: SRV=x\r\n\r\n")
		w.must(err)
		if b, err := answer.ReadByte(); err == nil {
			t.Errorf("answer %q", b)
		}
	}
	_, err := io.WriteString(lasting, get+"\r\n")
	w.must(err)
	w.expect(in, "503")
	w.await("the counter", func() error { // behind the connection's end
		if n := s.Stats().Panics; n != 3 {
			return fmt.Errorf("%d faults counted", n)
		}
		return nil
	})
	s.End()
	w.must(<-done)
	s.Wait()
}
