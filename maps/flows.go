package maps

import (
	"iter"
	"net/netip"

	"qlbaas/bpf"
)

// FlowKey is a packet's tuple as it arrives: one direction of a connection.
type FlowKey struct {
	Source, Destination netip.AddrPort
	Protocol            Protocol
}

// FlowState is a set of states; see String for their names. The client side's entry
// holds the connection's, the member side's has MemberSide and Timestamps only.
type FlowState uint32

// The bits of a FlowState.
const (
	// MemberSide: packets of this entry come from the member.
	MemberSide = FlowState(bpf.Lb4FlowStateFLOW_MEMBER_SIDE)
	// Timestamps: the SYN had a timestamp option.
	Timestamps = FlowState(bpf.Lb4FlowStateFLOW_TIMESTAMPS)
	// SynAck: half-open, and the member has answered.
	SynAck = FlowState(bpf.Lb4FlowStateFLOW_SYN_ACK)
	// FinClient and FinMember: that side has sent its FIN.
	FinClient = FlowState(bpf.Lb4FlowStateFLOW_FIN_CLIENT)
	FinMember = FlowState(bpf.Lb4FlowStateFLOW_FIN_MEMBER)
	// Closed: both FINs or a true RST were seen; the flow is no longer active.
	Closed = FlowState(bpf.Lb4FlowStateFLOW_CLOSED)
	// Dead: the pair is being deleted.
	Dead = FlowState(bpf.Lb4FlowStateFLOW_DEAD)
	// Reset: the drain's deadline has passed, both ends are reset.
	Reset = FlowState(bpf.Lb4FlowStateFLOW_RESET)
	// Cookie: the client had to show that it exists; it knows the member's sequence
	// numbers shifted.
	Cookie = FlowState(bpf.Lb4FlowStateFLOW_COOKIE)
)

// Flow is what a packet of a FlowKey becomes.
type Flow struct {
	// Source and Destination after translation.
	Source, Destination netip.AddrPort
	// Slot and Serial of the member; Place of the source address that it sees.
	Slot, Place uint16
	Serial      uint32
	State       FlowState
	// Seen is when the last packet of this direction came, Started the SYN's time.
	Seen, Started Tick
	// Next is the highest sequence number sent so far + 1, Ack the last
	// acknowledgment sent. Shift is what is added to the client's TSval (Timestamps), or
	// to the member's sequence numbers (Cookie).
	Next, Ack, Shift uint32
}

// FlowEntry is one entry of the flow table: one direction of a connection.
type FlowEntry struct {
	Key FlowKey
	Flow
}

// Flows iterates over both directions of all flows; an error ends it. Entries that
// come or go meanwhile may or may not be seen.
func (p *Pool) Flows() iter.Seq2[FlowEntry, error] { return p.words.flows(p.own.Flows) }

// FlowsUsed is the number of connections in the flow table.
func (p *Pool) FlowsUsed() (uint32, error) {
	state, err := p.PoolState()
	return state.Flows, err
}
