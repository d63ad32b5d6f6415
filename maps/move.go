package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	"qlbaas/bpf"
)

// A flow table cannot grow. To change its size, flows move to another one:
//
//  1. CopyFlows, while programs still work on the former table;
//  2. the programs are replaced by ones that work on the new table;
//  3. ReplaceFlows and SettleFlows, which brings over what happened to flows since
//     they were copied.
//
// From 1 to 3 no flow may be opened and none expired; that is the caller's part.

// CopyFlows copies all flows into an empty table.
func (p *Pool) CopyFlows(to *ebpf.Map) error { return p.words.copyFlows(p.own.Flows, to) }

// ReplaceFlows makes another table the pool's and returns the former one, which is
// the caller's now. Nothing may use the pool meanwhile.
func (p *Pool) ReplaceFlows(by *ebpf.Map) (former *ebpf.Map) {
	former, p.own.Flows = p.own.Flows, by
	return former
}

// CopyStates puts all ports into another outer map, one with room for more source
// addresses. Until ReplaceStates no slot or source may come or go.
func (p *Pool) CopyStates(to *ebpf.Map) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var keys, values []uint32
	for at, m := range p.inner {
		if at.outer == memberStates {
			keys, values = append(keys, at.index), append(values, uint32(m.FD()))
		}
	}
	if len(keys) == 0 {
		return nil
	}
	_, err := to.BatchUpdate(keys, values, nil)
	return wrap(err, "copy ports")
}

// ReplaceStates makes another outer map of ports the pool's and returns the former one,
// which is the caller's now. Both hold the same inner maps. Nothing may use the pool
// meanwhile.
func (p *Pool) ReplaceStates(by *ebpf.Map) (former *ebpf.Map) {
	former, p.own.MemberStates = p.own.MemberStates, by
	p.outers[memberStates] = by
	return former
}

// SettleFlows merges what became of flows in the former table, to which nobody writes
// any more, into the pool's, which programs use. A packet that changes a flow in the
// very moment may be overlooked: the next packet of that flow makes up for it, unless
// it was a FIN; then the flow goes after its idle timeout.
func (p *Pool) SettleFlows(former *ebpf.Map) error {
	return p.words.settleFlows(former, p.own.Flows)
}

func (words[A]) copyFlows(from, to *ebpf.Map) error {
	for entry, err := range batches[flowKey[A], flowEntry[A]](from) {
		if err == nil {
			err = to.Put(&entry.key, &entry.value)
		}
		if err != nil {
			return wrap(err, "copy flows")
		}
	}
	return nil
}

func (words[A]) settleFlows(from, to *ebpf.Map) error {
	for former, err := range batches[flowKey[A], flowEntry[A]](from) {
		if err != nil {
			return wrap(err, "read former flows")
		}
		var now flowEntry[A]
		err := to.Lookup(&former.key, &now)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue // it ended since
		}
		if err != nil {
			return wrap(err, "read flow")
		}
		merged := mergeFlow(former.value, now)
		if merged == now {
			continue
		}
		err = to.Update(&former.key, &merged, ebpf.UpdateExist)
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return wrap(err, "settle flow")
		}
	}
	// What ended in the former table after it was copied.
	for entry, err := range batches[flowKey[A], flowEntry[A]](to) {
		if err != nil {
			return wrap(err, "read flows")
		}
		var gone flowEntry[A]
		err := from.Lookup(&entry.key, &gone)
		if err == nil {
			continue
		}
		if !errors.Is(err, ebpf.ErrKeyNotExist) {
			return wrap(err, "read former flow")
		}
		if err := remove(to, &entry.key); err != nil {
			return fmt.Errorf("delete flow: %w", err)
		}
	}
	return nil
}

// mergeFlow takes the later of everything that only goes forward. A mark of death in
// the former table came to nothing, or the flow would not be there.
func mergeFlow[A address](former, now flowEntry[A]) flowEntry[A] {
	now.Flow.State |= former.Flow.State &^ uint32(bpf.Lb4FlowStateFLOW_DEAD)
	now.Flow.Seen = later(former.Flow.Seen, now.Flow.Seen)
	now.Flow.Next = later(former.Flow.Next, now.Flow.Next)
	now.Flow.Ack = later(former.Flow.Ack, now.Flow.Ack)
	return now
}

// later compares by difference, as all that wraps.
func later(a, b uint32) uint32 {
	if int32(a-b) > 0 {
		return a
	}
	return b
}
