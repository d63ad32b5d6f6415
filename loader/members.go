package loader

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"qlbaas/maps"
)

// member is an occupied slot: a member of the wanted balancer, or one that was and
// still has connections.
type member struct {
	slot    uint16
	id      string
	serial  uint32
	address netip.AddrPort
	// weight and present are the wanted ones; a member that is not present drains.
	weight  uint16
	present bool
	// configured members keep their slot, and with it their counters, also while
	// they are admin-down.
	configured bool
	// drainSince is when the member stopped being present, as far as this process
	// knows; zero while it is present.
	drainSince time.Time
	// reset says that the deadline has passed and its connections end.
	reset bool
}

// recoverMembers reads back who has which slot. What a generation does not know
// was added by a daemon that died before it could be used.
func recoverMembers(view *maps.Pool, active maps.Generation) ([]*member, error) {
	used := map[uint16]bool{}
	for _, slot := range view.Slots() {
		used[slot] = true
	}
	var members []*member
	for _, m := range active.Members {
		if !used[m.Slot] {
			continue // retired, but for the generation that leaves it out
		}
		delete(used, m.Slot)
		recovered := &member{
			slot: m.Slot, id: m.ID, serial: m.Serial, address: m.Address, weight: m.Weight,
			present: m.Present, configured: true, // until Apply says who is
		}
		if !m.Present {
			recovered.drainSince = time.Now()
		}
		members = append(members, recovered)
	}
	var orphans []uint16
	for slot := range used {
		orphans = append(orphans, slot)
	}
	if err := view.RemoveSlots(orphans...); err != nil {
		return nil, err
	}
	return members, nil
}

// memberPlan is how slots change for a new balancer.
type memberPlan struct {
	// all is who has a slot afterwards; added are those of them that are new.
	all, added []*member
}

// planMembers gives every wanted member its slot. A member keeps slot and serial as
// long as it keeps its id and address; with another address it is another member,
// because its connections go on to the old one.
func planMembers(have []*member, wanted []Member, lastSerial uint32, now time.Time) (memberPlan, error) {
	var plan memberPlan
	type identity struct {
		id      string
		address netip.AddrPort
	}
	slots := map[identity]*member{}
	taken := make([]bool, maps.MaxSlots)
	for _, m := range have {
		left := *m
		left.configured, left.present, left.weight = false, false, 0
		slots[identity{m.id, m.address}] = &left
		taken[m.slot] = true
		plan.all = append(plan.all, &left)
	}
	next := 0
	for _, w := range wanted {
		m := slots[identity{w.ID, w.Address}]
		if m == nil {
			for next < len(taken) && taken[next] {
				next++
			}
			if next == len(taken) {
				return plan, fmt.Errorf("no slot is left for member %s: %d members still drain", w.ID, len(have))
			}
			lastSerial++
			m = &member{slot: uint16(next), id: w.ID, serial: lastSerial, address: w.Address}
			taken[next] = true
			plan.all = append(plan.all, m)
			plan.added = append(plan.added, m)
		}
		m.configured, m.weight, m.present = true, w.Weight, w.AdminUp
	}
	for _, m := range plan.all {
		switch {
		case m.present:
			m.drainSince, m.reset = time.Time{}, false
		case m.drainSince.IsZero():
			m.drainSince = now
		}
	}
	slices.SortFunc(plan.all, func(a, b *member) int { return int(a.slot) - int(b.slot) })
	return plan, nil
}

// nextSerialAfter returns the highest serial that may be in use. Serials of members
// that are long gone are known to nobody, so a new one is at least the time in
// seconds: whoever had one before had it earlier.
func nextSerialAfter(view *maps.Pool, members []*member, now time.Time) (uint32, error) {
	retired, err := view.Retired()
	if err != nil {
		return 0, err
	}
	last := max(retired.Serial, uint32(now.Unix()))
	for _, m := range members {
		last = max(last, m.serial)
	}
	return last, nil
}

func slotsOf(members []*member) []uint16 {
	slots := make([]uint16, 0, len(members))
	for _, m := range members {
		slots = append(slots, m.slot)
	}
	return slots
}
