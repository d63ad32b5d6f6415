package lbaas

import (
	"net/netip"
)

// Status is where an object stands between what a user asked for and what the
// node does.
type Status string

// The statuses. StatusInactive is a member's only: its monitors found it down.
// StatusDown is a port's that is not plugged.
const (
	StatusPendingCreate Status = "PENDING_CREATE"
	StatusPendingUpdate Status = "PENDING_UPDATE"
	StatusPendingDelete Status = "PENDING_DELETE"
	StatusActive        Status = "ACTIVE"
	StatusInactive      Status = "INACTIVE"
	StatusError         Status = "ERROR"
	StatusDown          Status = "DOWN"
)

// Protocol is what a pool and its VIP say they speak. All of them are balanced
// per connection; HTTP and HTTPS are TCP to the kernel. A UDP client's datagrams from
// one port are a connection until they have ceased for the idle_timeout.
type Protocol string

// The protocols of pools and VIPs.
const (
	ProtocolTCP   Protocol = "TCP"
	ProtocolHTTP  Protocol = "HTTP"
	ProtocolHTTPS Protocol = "HTTPS"
	// ProtocolUDP is beyond the original.
	ProtocolUDP Protocol = "UDP"
)

// Method chooses the member of a new client.
type Method string

// The balancing methods.
const (
	MethodRoundRobin       Method = "ROUND_ROBIN"
	MethodLeastConnections Method = "LEAST_CONNECTIONS"
	MethodSourceIP         Method = "SOURCE_IP"
)

// PersistenceType decides for the following connections of a known client.
type PersistenceType string

// The kinds of session persistence.
const (
	PersistenceSourceIP   PersistenceType = "SOURCE_IP"
	PersistenceHTTPCookie PersistenceType = "HTTP_COOKIE"
	PersistenceAppCookie  PersistenceType = "APP_COOKIE"
)

// MonitorType is how a health monitor probes.
type MonitorType string

// The kinds of probes.
const (
	MonitorPing  MonitorType = "PING"
	MonitorTCP   MonitorType = "TCP"
	MonitorHTTP  MonitorType = "HTTP"
	MonitorHTTPS MonitorType = "HTTPS"
)

// Header is what every stored object begins with.
type Header struct {
	// ID is a UUID made by the service.
	ID       string `json:"id"`
	TenantID string `json:"tenant_id"`
	// Created is the store's revision at creation; it orders objects by age.
	Created uint64 `json:"created"`
	// Generation is the store's revision at the last change by a user. A status
	// report carries the generation it speaks of and is dropped when the object
	// has moved on.
	Generation uint64 `json:"generation"`
}

// State is an object's status with its reason. The empty description is
// answered as null.
type State struct {
	Status            Status `json:"status"`
	StatusDescription string `json:"status_description,omitempty"`
}

// Pool is a group of members that offer one service.
type Pool struct {
	Header
	State
	Name        string   `json:"name"`
	Description string   `json:"description"`
	SubnetID    string   `json:"subnet_id"`
	Protocol    Protocol `json:"protocol"`
	LBMethod    Method   `json:"lb_method"`
	// Provider is the driver's name as the user gave it, in lower case.
	Provider     string `json:"provider"`
	AdminStateUp bool   `json:"admin_state_up"`
	// DrainTimeout in seconds bounds how long flows of a removed or admin-down
	// member live; 0 means no bound.
	DrainTimeout int64 `json:"drain_timeout"`
	// VIPID is empty while the pool has no VIP.
	VIPID string `json:"vip_id"`
	// Stats is what earlier deployments of this pool counted.
	Stats StatsBase `json:"stats"`
	// CookieKeys make the values of HTTP_COOKIE, the newest first: the first one makes
	// new values, at most two are accepted. They are secret, and stay when persistence is
	// switched off.
	CookieKeys [][]byte `json:"cookie_keys,omitempty"`
}

// SessionPersistence is how a VIP binds clients to members. CookieName is set
// for APP_COOKIE only.
type SessionPersistence struct {
	Type       PersistenceType `json:"type"`
	CookieName string          `json:"cookie_name,omitempty"`
}

// VIP is the address and port that clients know; exactly one pool is behind it.
type VIP struct {
	Header
	State
	Name         string     `json:"name"`
	Description  string     `json:"description"`
	SubnetID     string     `json:"subnet_id"`
	Address      netip.Addr `json:"address"`
	PortID       string     `json:"port_id"`
	ProtocolPort uint16     `json:"protocol_port"`
	Protocol     Protocol   `json:"protocol"`
	PoolID       string     `json:"pool_id"`
	// SessionPersistence is nil when there is none.
	SessionPersistence *SessionPersistence `json:"session_persistence,omitempty"`
	// ConnectionLimit bounds established flows; -1 means no limit, 0 accepts nothing.
	ConnectionLimit int64 `json:"connection_limit"`
	AdminStateUp    bool  `json:"admin_state_up"`
	// PersistenceTimeout (seconds) ends an unused affinity entry; 0 means never.
	PersistenceTimeout int64 `json:"persistence_timeout"`
	// IdleTimeout (seconds) ends a silent established flow.
	IdleTimeout int64 `json:"idle_timeout"`
	// FlowLimit is the size of the pool's flow table, in flows.
	FlowLimit int64 `json:"flow_limit"`
	// SNATAddresses are further source addresses toward the members, beside Address.
	SNATAddresses []netip.Addr `json:"snat_addresses,omitempty"`
}

// Member is one endpoint behind a VIP.
type Member struct {
	Header
	State
	PoolID       string     `json:"pool_id"`
	Address      netip.Addr `json:"address"`
	ProtocolPort uint16     `json:"protocol_port"`
	// Weight is 0..256; 0 takes no new clients.
	Weight       int64 `json:"weight"`
	AdminStateUp bool  `json:"admin_state_up"`
}

// HealthMonitor says how members are probed. It has no status of its own; its
// associations have.
type HealthMonitor struct {
	Header
	Type MonitorType `json:"type"`
	// Delay (seconds) lies between two probes, Timeout (seconds) bounds one;
	// Delay >= Timeout >= 1.
	Delay   int64 `json:"delay"`
	Timeout int64 `json:"timeout"`
	// MaxRetries is the number of consecutive failures until down, 1..10.
	MaxRetries int64 `json:"max_retries"`
	// HTTPMethod, URLPath and ExpectedCodes matter to HTTP and HTTPS monitors.
	// ExpectedCodes is a comma list ("200,202") or one range ("200-204").
	HTTPMethod    string `json:"http_method"`
	URLPath       string `json:"url_path"`
	ExpectedCodes string `json:"expected_codes"`
	AdminStateUp  bool   `json:"admin_state_up"`
}

// Association binds a monitor to a pool; its ID is empty, the pair names it.
type Association struct {
	Header
	State
	PoolID    string `json:"pool_id"`
	MonitorID string `json:"monitor_id"`
}

// Network is a layer-2 segment that ports can be plugged into.
type Network struct {
	Header
	Name         string `json:"name"`
	Description  string `json:"description"`
	AdminStateUp bool   `json:"admin_state_up"`
	// Shared networks can be used by every project.
	Shared   bool `json:"shared"`
	External bool `json:"router:external"`
	// NetworkType is flat or vlan.
	NetworkType string `json:"provider:network_type"`
	// PhysicalNetwork names the bridge in the agent's network namespace; empty
	// when none was given, and then nothing can be plugged.
	PhysicalNetwork string `json:"provider:physical_network"`
	// SegmentationID is the VLAN id, 1..4094, and 0 on a flat network.
	SegmentationID int64 `json:"provider:segmentation_id"`
	// Extra holds attributes that are kept for their owner and have no effect.
	Extra map[string]any `json:"extra,omitempty"`
}

// AddressRange is an inclusive run of addresses.
type AddressRange struct {
	Start netip.Addr `json:"start"`
	End   netip.Addr `json:"end"`
}

// Subnet is an address block on a network.
type Subnet struct {
	Header
	Name        string       `json:"name"`
	Description string       `json:"description"`
	NetworkID   string       `json:"network_id"`
	IPVersion   int64        `json:"ip_version"`
	CIDR        netip.Prefix `json:"cidr"`
	// GatewayIP is the zero Addr when the subnet has no gateway.
	GatewayIP netip.Addr `json:"gateway_ip"`
	// AllocationPools are sorted and do not overlap.
	AllocationPools []AddressRange `json:"allocation_pools"`
	// NextFresh is where the search for a never used address goes on; everything
	// below it in the pools has been handed out at least once.
	NextFresh netip.Addr     `json:"next_fresh"`
	Extra     map[string]any `json:"extra,omitempty"`
}

// FixedIP is one address of a port.
type FixedIP struct {
	SubnetID  string     `json:"subnet_id"`
	IPAddress netip.Addr `json:"ip_address"`
}

// Port is a place on a network: a hardware address with its IP addresses.
type Port struct {
	Header
	Name         string    `json:"name"`
	Description  string    `json:"description"`
	NetworkID    string    `json:"network_id"`
	MACAddress   string    `json:"mac_address"`
	FixedIPs     []FixedIP `json:"fixed_ips"`
	AdminStateUp bool      `json:"admin_state_up"`
	// DeviceOwner is OwnerLoadBalancer for a VIP's port, whose DeviceID is the VIP.
	DeviceOwner string         `json:"device_owner"`
	DeviceID    string         `json:"device_id"`
	Extra       map[string]any `json:"extra,omitempty"`
}

// OwnerLoadBalancer owns the ports of VIPs.
const OwnerLoadBalancer = "neutron:LOADBALANCER"

// Counters is what a pool has carried. All but ActiveConnections only grow.
type Counters struct {
	// BytesIn went from clients to members, BytesOut back.
	BytesIn           uint64 `json:"bytes_in"`
	BytesOut          uint64 `json:"bytes_out"`
	ActiveConnections uint64 `json:"active_connections"`
	TotalConnections  uint64 `json:"total_connections"`
}

// StatsBase is the share of a pool's counters that no longer lives on the node.
type StatsBase struct {
	Counters
	// Closed says that the deployment that may still be on the node has been
	// added already: its live counters no longer count.
	Closed bool `json:"closed"`
}
