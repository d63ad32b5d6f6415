package reconcile

import (
	"context"
	"math"

	"qlbaas/lbaas"
	"qlbaas/loader"
)

// Admit asks the node whether a pool's tables can be paid for. The flows of pools
// that were admitted but are not deployed yet are counted to this one's, since
// the node does not know them; their small fixed tables are not, and what that
// leaves out is refused by Apply.
func (r *Reconciler) Admit(_ context.Context, poolID string, want lbaas.Sizes, others map[string]lbaas.Sizes) error {
	flows := uint64(want.Flows)
	for id, sizes := range others {
		if id != poolID && !r.deployed(id) {
			flows += uint64(sizes.Flows)
		}
	}
	b := loader.Balancer{PoolID: poolID, AdminUp: true}
	b.VIP.FlowLimit = uint32(min(flows, math.MaxUint32))
	if want.Affinity {
		b.VIP.Persistence = loader.SourceIPPersistence
	}
	return r.node.Admit(b)
}

func (r *Reconciler) deployed(id string) bool {
	p := r.known(id)
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deployed
}
