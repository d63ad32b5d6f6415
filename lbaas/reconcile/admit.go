package reconcile

import (
	"context"
	"net"
	"net/netip"
	"strconv"

	"qlbaas/lbaas"
	"qlbaas/loader"
)

// maxFlows is the largest table that the node can be asked about.
const maxFlows = 4194304

// Admit asks the node whether a pool's tables can be paid for. The flows of pools
// that were admitted but are not deployed yet are counted to this one's, since
// the node does not know of them; their small fixed tables are not, and what that
// leaves out is refused by Apply.
func (r *Reconciler) Admit(_ context.Context, poolID string, want lbaas.Sizes, others map[string]lbaas.Sizes) error {
	flows := uint64(want.Flows)
	for id, sizes := range others {
		if id != poolID && !r.deployed(id) {
			flows += uint64(sizes.Flows)
		}
	}
	return r.node.Admit(sample(poolID, uint32(min(flows, maxFlows)), want))
}

// sample is a balancer of which only the sizes are meant. Everything else is made
// up (the addresses are those of documentation).
func sample(poolID string, flows uint32, want lbaas.Sizes) loader.Balancer {
	b := loader.Balancer{PoolID: poolID, AdminUp: true, VIP: loader.VIP{
		ID: poolID, PortID: poolID, MAC: net.HardwareAddr{0xfa, 0x16, 0x3e, 0, 0, 0}, AdminUp: true,
		Address: netip.MustParsePrefix("192.0.2.1/24"), Port: 1, Bridge: "none",
		ConnectionLimit: -1, FlowLimit: flows,
	}}
	if want.IPv6 {
		b.VIP.Address = netip.MustParsePrefix("2001:db8::1/64")
	}
	for len(b.SNAT) < want.Sources-1 {
		b.SNAT = append(b.SNAT, b.VIP.Address.Addr())
	}
	for i := range want.Members {
		b.Members = append(b.Members, loader.Member{ID: strconv.Itoa(i), Weight: 1, AdminUp: true})
	}
	if want.Affinity {
		b.VIP.Persistence = loader.SourceIPPersistence
	}
	return b
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
