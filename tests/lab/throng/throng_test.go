package throng_test

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"qlbaas/tests/lab"
	"qlbaas/tests/lab/labtest"
	"qlbaas/tests/lab/throng"
)

func TestMain(m *testing.M) { os.Exit(lab.Enter(m.Run)) }

const patience = 10 * time.Second

// TestThrong: what lives is counted as alive, and what the server has ended as lost.
func TestThrong(t *testing.T) {
	l := labtest.New(t)
	h, err := l.Host("h")
	if err != nil {
		t.Fatal(err)
	}
	target := netip.MustParseAddrPort("127.0.0.1:7")
	echo, err := h.StartEcho("ONE", target)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c := throng.Clients{Host: h, Target: target}
	idle, err := throng.Hold(ctx, c, 50)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	busy, err := throng.Hold(ctx, c, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	work := busy.Work(10*time.Millisecond, patience)
	visits := throng.Visit(c, 50, patience)
	ended := time.After(300 * time.Millisecond)
	if lost, why := idle.Lost(patience); lost != 0 {
		t.Errorf("%d are lost: %v", lost, why)
	}
	<-ended
	if v := visits.Stop(); v.Tried == 0 || v.InTime != v.Tried || len(v.Times) != v.Tried {
		t.Errorf("of %d visits %d were in time: %v", v.Tried, v.InTime, v.Why)
	}
	if w := work.Stop(); w.Lost != 0 || len(w.Times) < 10 || w.Times.Quantile(0.5) > w.Times.Quantile(1) {
		t.Errorf("%d are lost, after %d echoes: %v", w.Lost, len(w.Times), w.Why)
	}

	work = busy.Work(10*time.Millisecond, patience)
	if err := echo.Close(); err != nil {
		t.Fatal(err)
	}
	if lost, _ := idle.Lost(patience); lost != idle.Len() {
		t.Errorf("%d are lost, want %d", lost, idle.Len())
	}
	visits = throng.Visit(c, 50, patience)
	<-time.After(100 * time.Millisecond)
	if v := visits.Stop(); v.Tried == 0 || v.InTime != 0 || v.Why == nil {
		t.Errorf("of %d visits %d were in time: %v", v.Tried, v.InTime, v.Why)
	}
	if w := work.Stop(); w.Lost != busy.Len() || w.Why == nil {
		t.Errorf("%d are lost, want %d: %v", w.Lost, busy.Len(), w.Why)
	}
}

// TestChurn: many connections come and go, and all are gone at the end, whoever ended them.
func TestChurn(t *testing.T) {
	l := labtest.New(t)
	h, err := l.Host("h")
	if err != nil {
		t.Fatal(err)
	}
	target := netip.MustParseAddrPort("127.0.0.1:7")
	server, err := throng.StartMoody(h, target, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	c := throng.StartChurn(h, []netip.Addr{target.Addr()}, target, 1)
	<-time.After(300 * time.Millisecond)
	got, err := c.Stop()
	if err != nil || got.Made < 500 || got.Refused+got.TimedOut != 0 {
		t.Errorf("%+v: %v", got, err)
	}
	out, err := h.Run(t.Context(), "ss", "-Htn", "state", "established")
	if err != nil || out != "" {
		t.Errorf("still there: %v %s", err, out)
	}
}
