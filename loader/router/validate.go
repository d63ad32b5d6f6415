package router

import (
	"fmt"
	"net/netip"
	"slices"
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrInvalid)
}

// validate keeps out what cannot be made: callers have rules of their own.
func (r *Router) validate() error {
	if !isUUID(r.ID) {
		return invalid("router id %q is not a UUID", r.ID)
	}
	ports := map[string]bool{}
	for _, l := range r.legs() {
		switch {
		case !isUUID(l.PortID):
			return invalid("port id %q is not a UUID", l.PortID)
		case ports[l.PortID[:portDigits]]:
			return invalid("two legs would be called %s", l.insideName())
		case len(l.MAC) != 6:
			return invalid("leg %s: MAC %s", l.PortID, l.MAC)
		case !l.Address.IsValid() || !l.Address.Addr().Is4():
			return invalid("leg %s: address %s is not IPv4", l.PortID, l.Address)
		case l.Bridge == "":
			return invalid("leg %s has no bridge", l.PortID)
		case l.VLAN > 4094:
			return invalid("leg %s: VLAN %d", l.PortID, l.VLAN)
		case l.Gateway.IsValid() && !l.Gateway.Is4():
			return invalid("leg %s: gateway %s is not IPv4", l.PortID, l.Gateway)
		}
		ports[l.PortID[:portDigits]] = true
	}
	for _, route := range r.Routes {
		if !route.Destination.IsValid() || !route.Destination.Addr().Is4() || !route.NextHop.Is4() {
			return invalid("route to %s by %s is not IPv4", route.Destination, route.NextHop)
		}
	}
	return r.validateFloating()
}

func (r *Router) validateFloating() error {
	addresses, fixed := map[netip.Addr]bool{}, map[netip.Addr]bool{}
	for _, f := range r.Floating {
		switch {
		case !isUUID(f.ID):
			return invalid("floating IP id %q is not a UUID", f.ID)
		case !f.Address.Is4() || !f.Fixed.Is4():
			return invalid("floating IP %s for %s is not IPv4", f.Address, f.Fixed)
		case addresses[f.Address] || fixed[f.Fixed]:
			return invalid("%s or %s has two floating IPs", f.Address, f.Fixed)
		}
		addresses[f.Address], fixed[f.Fixed] = true, true
	}
	return nil
}

// clone returns a copy that nobody else can change.
func (r Router) clone() *Router {
	if r.External != nil {
		external := *r.External
		r.External = &external
	}
	r.Inside, r.Floating, r.Routes = slices.Clone(r.Inside), slices.Clone(r.Floating), slices.Clone(r.Routes)
	return &r
}

// leg is a leg and what it is.
type leg struct {
	Leg
	external bool
}

// legs are all legs, the external one first.
func (r *Router) legs() []*leg {
	var all []*leg
	if r.External != nil {
		all = append(all, &leg{*r.External, true})
	}
	for _, l := range r.Inside {
		all = append(all, &leg{l, false})
	}
	return all
}

// toward returns the inside leg that leads to an address: one whose network it is in, or
// the one with the next hop of the longest route there. nil: no inside leg does.
func (r *Router) toward(a netip.Addr) *Leg {
	for i := range r.Inside {
		if r.Inside[i].Address.Contains(a) {
			return &r.Inside[i]
		}
	}
	var best *Route
	for i, route := range r.Routes {
		if route.Destination.Contains(a) && (best == nil || route.Destination.Bits() > best.Destination.Bits()) {
			best = &r.Routes[i]
		}
	}
	if best == nil {
		return nil
	}
	for i := range r.Inside {
		if r.Inside[i].Address.Contains(best.NextHop) {
			return &r.Inside[i]
		}
	}
	return nil
}

// floating are the floating IPs that are at work: those with both legs.
func (r *Router) floating() []Floating {
	if r.External == nil {
		return nil
	}
	var all []Floating
	for _, f := range r.Floating {
		if r.toward(f.Fixed) != nil {
			all = append(all, f)
		}
	}
	return all
}
