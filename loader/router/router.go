package router

import (
	"errors"
	"net"
	"net/netip"
)

// Router is one router as it shall be on this node. The zero value of everything
// optional means "none".
type Router struct {
	// ID is a UUID, and names namespace, pins and devices.
	ID string
	// AdminUp false: the legs are there and down, so that nothing is heard of them.
	AdminUp bool
	// External is the leg in the external network, nil while there is none.
	External *Leg
	// SNAT lets hosts without floating IP out under the external leg's address. Without
	// it their packets leave as they are, and the inside networks can be reached
	// from outside by their own addresses, as in any routed network.
	SNAT bool
	// Inside are the legs in the networks behind the router.
	Inside []Leg
	// Floating are the floating IPs that lead to an address; without External they
	// wait.
	Floating []Floating
	// Routes are further routes, by next hops on the legs' networks.
	Routes []Route
}

// Leg is a router's device in one network.
type Leg struct {
	// PortID is the UUID of the leg's port and names its devices: qr-… or qg-… in the
	// router's namespace, tap… on the bridge.
	PortID string
	MAC    net.HardwareAddr
	// Address is the leg's own in its network, IPv4, with the subnet's prefix length.
	Address netip.Prefix
	// Bridge is what the leg is plugged into, in the daemon's network namespace: a bridge
	// or, for the interface driver macvlan, the LAN device.
	Bridge string
	// VLAN of the bridge, 1..4094; 0 means untagged.
	VLAN uint16
	// Gateway, of the external leg only, is the next hop of the default route; not
	// valid: there is none.
	Gateway netip.Addr
}

// Floating is a floating IP: an external address that stands for an inside one, in both
// directions and for every protocol.
type Floating struct {
	// ID is the UUID of the floating IP.
	ID string
	// Address is the external one, Fixed the one of the host behind it. IPv4. Neither
	// may stand for two others.
	Address, Fixed netip.Addr
}

// Route is a route to a network behind another router.
type Route struct {
	Destination netip.Prefix
	NextHop     netip.Addr
}

// Stats is what a router's programs have counted. Packets that are left to the stack,
// which are those of hosts without floating IP above all, are in Verdicts only.
type Stats struct {
	Floating []FloatingStats
	// Drops counts packets that ended, by reason, Verdicts all others, by what became
	// of them.
	Drops, Verdicts map[string]uint64
}

// FloatingStats are the counters of one floating IP: In is toward its host. Bytes are IP
// lengths of every segment, packets are segments. They start at nothing when the
// floating IP comes to the router, and are kept over restarts and upgrades.
type FloatingStats struct {
	ID                                       string
	PacketsIn, BytesIn, PacketsOut, BytesOut uint64
}

// Status is what an operator wants to know of one deployed router.
type Status struct {
	RouterID string
	// Namespace and External, the external leg's device, as `ip netns` and `ip link`
	// show them.
	Namespace, External string
	// Tag is the kernel's program tag (hex), Hook the attached hook: tcx, clsact or xdp.
	Tag, Hook string
	// Floating is how many floating IPs the programs translate.
	Floating int
	// LastError is empty when the router is as wanted.
	LastError string
}

// Errors that callers can tell apart with errors.Is.
var (
	// ErrNotDeployed: the router has nothing on this node.
	ErrNotDeployed = errors.New("not deployed")
	// ErrInvalid: the router contradicts itself or cannot be.
	ErrInvalid = errors.New("invalid router")
	// ErrLayout: pins of another layout are there, made by another version.
	ErrLayout = errors.New("pins of another layout")
)
