package reconcile

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"qlbaas/healthd"
	"qlbaas/lbaas"
	"qlbaas/loader"
)

// errUnservable marks wanted states that no attempt can make real.
var errUnservable = errors.New("cannot be served")

func unservable(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errUnservable, fmt.Errorf(format, args...))
}

// balancer translates a pool with a VIP into what the node is asked for. Its
// errors are errUnservable.
func balancer(cfg lbaas.PoolConfig) (loader.Balancer, error) {
	none := loader.Balancer{}
	vip, err := plannedVIP(cfg)
	if err != nil {
		return none, err
	}
	b := loader.Balancer{
		PoolID:       cfg.Pool.ID,
		AdminUp:      cfg.Pool.AdminStateUp,
		Protocol:     loader.TCP,
		VIP:          vip,
		DrainTimeout: seconds(cfg.Pool.DrainTimeout),
	}
	switch cfg.Pool.Protocol {
	case lbaas.ProtocolTCP, lbaas.ProtocolHTTP, lbaas.ProtocolHTTPS:
	case lbaas.ProtocolUDP:
		b.Protocol = loader.UDP
	default:
		return none, unservable("protocol %s", cfg.Pool.Protocol)
	}
	switch cfg.Pool.LBMethod {
	case lbaas.MethodRoundRobin:
		b.Method = loader.RoundRobin
	case lbaas.MethodLeastConnections:
		b.Method = loader.LeastConnections
	case lbaas.MethodSourceIP:
		b.Method = loader.SourceIP
	default:
		return none, unservable("lb_method %s", cfg.Pool.LBMethod)
	}
	b.SNAT = cfg.VIP.SNATAddresses
	for _, m := range cfg.Members {
		if m.Weight < 0 || m.Weight > 256 || !validID(m.ID) {
			return none, unservable("member %q with weight %d", m.ID, m.Weight)
		}
		b.Members = append(b.Members, loader.Member{
			ID:      m.ID,
			Address: netip.AddrPortFrom(m.Address, m.ProtocolPort),
			Weight:  uint16(m.Weight),
			AdminUp: m.AdminStateUp,
		})
	}
	return b, nil
}

func plannedVIP(cfg lbaas.PoolConfig) (loader.VIP, error) {
	none := loader.VIP{}
	vip, port, subnet, network := cfg.VIP, cfg.Port, cfg.Subnet, cfg.Network
	if port == nil || subnet == nil || network == nil {
		return none, unservable("vip %s has no port on a network", vip.ID)
	}
	if !validID(vip.ID) || !validID(port.ID) {
		return none, unservable("vip %q on port %q: not a UUID", vip.ID, port.ID)
	}
	vlan, err := plannedNetwork(network)
	if err != nil {
		return none, err
	}
	mac, err := net.ParseMAC(port.MACAddress)
	if err != nil {
		return none, unservable("port %s: %w", port.ID, err)
	}
	limit := vip.FlowLimit
	if limit < 0 || limit > int64(^uint32(0)) {
		return none, unservable("flow_limit %d", limit)
	}
	return loader.VIP{
		ID: vip.ID, PortID: port.ID, MAC: mac,
		AdminUp:            vip.AdminStateUp,
		Address:            netip.PrefixFrom(vip.Address, subnet.CIDR.Bits()),
		Gateway:            subnet.GatewayIP,
		Port:               vip.ProtocolPort,
		Bridge:             network.PhysicalNetwork,
		VLAN:               vlan,
		ConnectionLimit:    vip.ConnectionLimit,
		Persistence:        plannedPersistence(vip),
		PersistenceTimeout: seconds(vip.PersistenceTimeout),
		IdleTimeout:        seconds(vip.IdleTimeout),
		FlowLimit:          uint32(limit),
	}, nil
}

// plannedNetwork returns the VLAN to join, 0 for none. Whether the node can is the interface
// driver's to say.
func plannedNetwork(network *lbaas.Network) (vlan uint16, err error) {
	if network.PhysicalNetwork == "" {
		return 0, unservable("network %s has no provider:physical_network, which names the bridge to join", network.ID)
	}
	if id := network.SegmentationID; id < 0 || id > 4094 {
		return 0, unservable("network %s has provider:segmentation_id %d, which is no VLAN", network.ID, id)
	}
	return uint16(network.SegmentationID), nil
}

// plannedPersistence is the kernel's part of it: cookies are read by a sidecar, or by
// nobody.
func plannedPersistence(vip *lbaas.VIP) loader.Persistence {
	if p := vip.SessionPersistence; p != nil && p.Type == lbaas.PersistenceSourceIP {
		return loader.SourceIPPersistence
	}
	return loader.NoPersistence
}

// targets are the members that are probed or could be: all that are admin-up.
// Without an admin-up monitor they have no checks and are up.
func targets(cfg lbaas.PoolConfig, up func(member string) bool) ([]healthd.Target, error) {
	checks, err := plannedChecks(cfg.Monitors)
	if err != nil {
		return nil, err
	}
	var out []healthd.Target
	for _, m := range cfg.Members {
		if !m.AdminStateUp {
			continue
		}
		out = append(out, healthd.Target{
			Pool: cfg.Pool.ID, Member: m.ID,
			Address: netip.AddrPortFrom(m.Address, m.ProtocolPort),
			Checks:  checks,
			Up:      up(m.ID),
		})
	}
	return out, nil
}

func plannedChecks(monitors []lbaas.MonitorConfig) ([]healthd.Check, error) {
	var out []healthd.Check
	for _, mc := range monitors {
		m := mc.Monitor
		if !m.AdminStateUp {
			continue
		}
		check := healthd.Check{
			ID: m.ID, Type: healthd.Type(m.Type),
			Delay: seconds(m.Delay), Timeout: seconds(m.Timeout), MaxRetries: int(m.MaxRetries),
		}
		if m.Type == lbaas.MonitorHTTP || m.Type == lbaas.MonitorHTTPS {
			codes, err := healthd.ParseCodes(m.ExpectedCodes)
			if err != nil {
				return nil, unservable("health monitor %s: expected_codes: %w", m.ID, err)
			}
			check.Method, check.Path, check.Codes = m.HTTPMethod, m.URLPath, codes
		}
		if err := check.Validate(); err != nil {
			return nil, unservable("health monitor %s: %w", m.ID, err)
		}
		out = append(out, check)
	}
	return out, nil
}

func seconds(n int64) time.Duration { return time.Duration(n) * time.Second }

// validID tells a canonical lower-case UUID. Ids become names of namespaces,
// devices and files, whoever wrote them into the store.
func validID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		hex := '0' <= s[i] && s[i] <= '9' || 'a' <= s[i] && s[i] <= 'f'
		if dash != (s[i] == '-') || !dash && !hex {
			return false
		}
	}
	return true
}
