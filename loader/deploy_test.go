package loader

import "testing"

func TestDeployAndRemove(t *testing.T) {
	w := newWorld(t)
	n := w.open()
	b := w.balancer()
	w.apply(n, b)
	s, err := n.Status(b.PoolID)
	t.Logf("%+v %v", s, err)
	st, err := n.Stats(b.PoolID)
	t.Logf("%+v %v", st, err)
	t.Logf("%q", w.leftovers())
	drifted, err := n.Refresh(t.Context())
	if err != nil || len(drifted) != 0 {
		t.Errorf("Refresh after Apply: %q, %v", drifted, err)
	}
	w.remove(n, b)
	w.wantNothingLeft()
}
