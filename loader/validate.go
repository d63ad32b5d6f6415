package loader

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Bounds of a balancer's numbers.
const (
	minFlowLimit = 64
	maxFlowLimit = 4194304
	maxWeight    = 256
	// maxDuration keeps every limit representable in the programs' clock, which
	// wraps after 52 days.
	maxDuration = 604800 * time.Second
	maxDrain    = 86400 * time.Second
)

func (b *Balancer) flowLimit() uint32 {
	if b.VIP.FlowLimit == 0 {
		return DefaultFlowLimit
	}
	return b.VIP.FlowLimit
}

func (b *Balancer) idleTimeout() time.Duration {
	switch {
	case b.VIP.IdleTimeout != 0:
	case b.Protocol == UDP:
		return DefaultUDPTimeout
	default:
		return DefaultIdleTimeout
	}
	return b.VIP.IdleTimeout
}

func addrPort(b *Balancer) netip.AddrPort {
	return netip.AddrPortFrom(b.VIP.Address.Addr(), b.VIP.Port)
}

// validate returns ErrInvalid, with the field's name, for a balancer that cannot be
// made. It is strict: names and addresses end in the kernel.
func (b *Balancer) validate() error {
	invalid := func(field string, value any) error {
		return fmt.Errorf("%w: %s %v", ErrInvalid, field, value)
	}
	switch {
	case !isUUID(b.PoolID):
		return invalid("PoolID", b.PoolID)
	case b.Protocol > UDP:
		return invalid("Protocol", b.Protocol)
	case b.Method > SourceIP:
		return invalid("Method", b.Method)
	case b.Sidecar > SidecarLeaves || b.Sidecar != NoSidecar && b.Protocol != TCP:
		return invalid("Sidecar", b.Sidecar)
	case b.DrainTimeout < 0 || b.DrainTimeout > maxDrain:
		return invalid("DrainTimeout", b.DrainTimeout)
	case len(b.Members) > MaxMembers:
		return invalid("Members: more than 1024:", len(b.Members))
	}
	if field, value := b.VIP.invalid(); field != "" {
		return invalid("VIP."+field, value)
	}
	if field, value := b.invalidSNAT(); field != "" {
		return invalid(field, value)
	}
	ids, addresses := map[string]bool{}, map[netip.AddrPort]bool{}
	for i, m := range b.Members {
		field, value := m.invalid(b.VIP.Address.Addr())
		switch {
		case field != "":
		case slices.Contains(b.SNAT, m.Address.Addr()):
			field, value = "Address: a source address", m.Address
		case ids[m.ID]:
			field, value = "ID: twice", m.ID
		case addresses[m.Address]:
			field, value = "Address: twice", m.Address
		}
		if field != "" {
			return invalid(fmt.Sprintf("Members[%d].%s", i, field), value)
		}
		ids[m.ID], addresses[m.Address] = true, true
	}
	return nil
}

// invalidSNAT returns the first source address that cannot be.
func (b *Balancer) invalidSNAT() (field string, value any) {
	if len(b.SNAT) > MaxSNAT {
		return fmt.Sprintf("SNAT: more than %d:", MaxSNAT), len(b.SNAT)
	}
	for i, a := range b.SNAT {
		// Of another family is none of the VIP's subnet.
		if !usableHost(a) || !b.VIP.Address.Contains(a) || a == b.VIP.Address.Addr() || a == b.VIP.Gateway ||
			slices.Contains(b.SNAT[:i], a) {
			return fmt.Sprintf("SNAT[%d]", i), a
		}
	}
	return "", nil
}

// invalid returns the first field that cannot be, and its value.
func (v *VIP) invalid() (field string, value any) {
	switch {
	case !isUUID(v.ID):
		return "ID", v.ID
	case !isUUID(v.PortID):
		return "PortID", v.PortID
	case len(v.MAC) != 6 || v.MAC[0]&1 != 0:
		return "MAC", v.MAC
	case !usableHost(v.Address.Addr()) || v.Address.Bits() < 1:
		return "Address", v.Address
	case v.Gateway.IsValid() && (!usableHost(v.Gateway) || !v.Address.Contains(v.Gateway) || v.Gateway == v.Address.Addr()):
		return "Gateway", v.Gateway
	case v.Port == 0:
		return "Port", v.Port
	case v.Bridge == "" || len(v.Bridge) > 15:
		return "Bridge", v.Bridge
	case v.VLAN > 4094:
		return "VLAN", v.VLAN
	case v.Persistence > SourceIPPersistence:
		return "Persistence", v.Persistence
	case v.PersistenceTimeout < 0 || v.PersistenceTimeout > maxDuration:
		return "PersistenceTimeout", v.PersistenceTimeout
	case v.IdleTimeout < 0 || v.IdleTimeout > maxDuration || v.IdleTimeout%time.Second != 0:
		return "IdleTimeout", v.IdleTimeout
	case v.PersistenceTimeout%time.Second != 0:
		return "PersistenceTimeout", v.PersistenceTimeout
	case v.FlowLimit != 0 && (v.FlowLimit < minFlowLimit || v.FlowLimit > maxFlowLimit):
		return "FlowLimit", v.FlowLimit
	}
	return "", nil
}

func (m *Member) invalid(vip netip.Addr) (field string, value any) {
	switch {
	case !isUUID(m.ID):
		return "ID", m.ID
	case !usableHost(m.Address.Addr()) || m.Address.Addr() == vip || familyOf(m.Address.Addr()) != familyOf(vip):
		return "Address", m.Address
	case m.Address.Port() == 0:
		return "Address: port", m.Address.Port()
	case m.Weight > maxWeight:
		return "Weight", m.Weight
	}
	return "", nil
}

// usableHost refuses addresses that no host on a wire has.
func usableHost(a netip.Addr) bool {
	switch {
	case !a.IsValid() || a.Is4In6() || a.Zone() != "":
		return false
	case a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast():
		return false
	}
	return a.Is6() || a.As4()[0] != 0 && a.As4()[0] < 224
}
