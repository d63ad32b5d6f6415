package distance_test

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/distance"
	"qlbaas/tests/lab/labtest"
)

func TestMain(m *testing.M) { os.Exit(lab.Enter(m.Run)) }

// TestDistance: a connection over the wire takes a round trip, and carries what it is
// given unchanged.
func TestDistance(t *testing.T) {
	l := labtest.New(t)
	near, err := l.Host("near")
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Host("far")
	if err != nil {
		t.Fatal(err)
	}
	const delay = 50 * time.Millisecond
	w, err := distance.Link(
		distance.End{Host: near, Device: "wire0", Address: netip.MustParsePrefix("10.1.0.1/24")},
		distance.End{Host: far, Device: "wire0", Address: netip.MustParsePrefix("10.1.0.2/24")},
		delay)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	e, err := far.StartEcho("far", netip.MustParseAddrPort("10.1.0.2:7"))
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	begin := time.Now()
	c, err := near.Dial(ctx, "tcp", "10.1.0.2:7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if took := time.Since(begin); took < 2*delay {
		t.Errorf("connected in %s: no distance", took)
	}
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	go func() { _, _ = c.Write(sent) }() // what is lost is missed below
	want := append([]byte("far\n"), sent...)
	got := make([]byte, len(want))
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("other bytes came back")
	}
	if n := w.Lost(); n != 0 {
		t.Errorf("%d packets were lost", n)
	}
}
