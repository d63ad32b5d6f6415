package lbaas

import (
	"slices"
	"strings"
)

// The words that pools and VIPs accept.
func protocols() []Protocol {
	return []Protocol{ProtocolTCP, ProtocolHTTP, ProtocolHTTPS, ProtocolUDP}
}

func methods() []Method {
	return []Method{MethodRoundRobin, MethodLeastConnections, MethodSourceIP}
}

// Provider is a name under which pools are served. They all mean this program;
// the alias lets scripts for the driver it replaces run unchanged.
type Provider struct {
	Name    string
	Default bool
}

// Providers lists the names that a pool's provider can have.
func Providers() []Provider {
	return []Provider{{Name: "qlbaas", Default: true}, {Name: "haproxy"}}
}

func providerKind() kind {
	return kind{parse: func(attr string, v any) (any, error) {
		s, err := stringOf(attr, v)
		if err != nil {
			return nil, err
		}
		name := strings.ToLower(s)
		known := make([]string, 0, len(Providers()))
		for _, p := range Providers() {
			known = append(known, p.Name)
		}
		if !slices.Contains(known, name) {
			return nil, refuse(errNoProvider, "Service provider %s could not be found for service type LOADBALANCER: "+
				"known are %s", quote(s), strings.Join(known, ", "))
		}
		return name, nil
	}}
}

// maxDrain is the longest drain_timeout, one day in seconds.
const maxDrain = 86400

func poolResource() *typed[Pool] {
	return &typed[Pool]{
		desc: desc{
			collection: Pools, kind: "pool", missing: errPoolNotFound,
			attrs: []attribute{
				{name: "id"},
				{name: "tenant_id", access: inPost, kind: textKind(maxText)},
				{name: "name", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "description", access: inBoth, kind: textKind(maxText), def: ""},
				{name: "subnet_id", access: inPost | required, kind: uuidKind()},
				{name: "protocol", access: inPost | required, kind: enumKind(protocols()...)},
				{name: "lb_method", access: inBoth | required, kind: enumKind(methods()...)},
				{name: "provider", access: inPost, kind: providerKind(), def: Providers()[0].Name},
				{name: "admin_state_up", access: inBoth, kind: boolKind(), def: true},
				{name: "drain_timeout", access: inBoth, kind: intKind(0, maxDrain), def: int64(0)},
				{name: "vip_id"},
				{name: "members"},
				{name: "health_monitors", access: inBoth, kind: uuidListKind()},
				{name: "health_monitors_status"},
				{name: "status"},
				{name: "status_description"},
			},
		},
		records: poolRecords(),
		object:  showPool,
		create:  createPool,
		alter:   alterPool,
		destroy: destroyPool,
	}
}

func showPool(v view, p *Pool) (Object, error) {
	members := []string{}
	for _, id := range under(v.tx, bucketMembersByPool, p.ID) {
		members = append(members, string(id))
	}
	associations, err := associationsOf(v.tx, p.ID)
	if err != nil {
		return nil, err
	}
	monitors, statuses := []string{}, []Object{}
	for _, a := range associations {
		monitors = append(monitors, a.MonitorID)
		statuses = append(statuses, Object{
			"monitor_id": a.MonitorID, "status": string(a.Status), "status_description": orNil(a.StatusDescription),
		})
	}
	return Object{
		"id": p.ID, "tenant_id": p.TenantID, "name": p.Name, "description": p.Description,
		"subnet_id": p.SubnetID, "protocol": string(p.Protocol), "lb_method": string(p.LBMethod),
		"provider": p.Provider, "admin_state_up": p.AdminStateUp, "drain_timeout": p.DrainTimeout,
		"vip_id": orNil(p.VIPID), "members": members,
		"health_monitors": monitors, "health_monitors_status": statuses,
		"status": string(p.Status), "status_description": orNil(p.StatusDescription),
	}, nil
}

// orNil shows an empty text as null.
func orNil(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func (p *Pool) apply(in values) {
	take(in, "name", &p.Name)
	take(in, "description", &p.Description)
	take(in, "lb_method", &p.LBMethod)
	take(in, "admin_state_up", &p.AdminStateUp)
	take(in, "drain_timeout", &p.DrainTimeout)
	// health_monitors is checked and otherwise ignored: associations alone change it.
}

// createPool does not look at the subnet: it is a label that clients show, the
// balancer stands on the VIP's.
func createPool(m *change, h Header, in values) (*Pool, error) {
	p := &Pool{Header: h, State: State{Status: StatusPendingCreate}}
	p.apply(in)
	take(in, "subnet_id", &p.SubnetID)
	take(in, "protocol", &p.Protocol)
	take(in, "provider", &p.Provider)
	if err := m.tx.Put(bucketPoolsBySubnet, p.SubnetID+"/"+p.ID, []byte{}); err != nil {
		return nil, err
	}
	m.touch(p.ID)
	return p, poolRecords().insert(m.tx, p)
}

func alterPool(m *change, p *Pool, in values) error {
	if err := m.updated("pool", &p.Header, &p.State); err != nil {
		return err
	}
	p.apply(in)
	m.touch(p.ID)
	return poolRecords().save(m.tx, p)
}

// destroyPool takes members and associations along, but not a VIP.
func destroyPool(m *change, p *Pool) error {
	if p.VIPID != "" {
		return refuse(errPoolInUse, "Pool %s is still in use by vip %s", p.ID, p.VIPID)
	}
	for _, key := range keysUnder(m.tx, bucketMembersByPool, p.ID) {
		id := string(m.tx.Get(bucketMembersByPool, p.ID+"/"+key))
		member, err := memberRecords().must(m.tx, id)
		if err != nil {
			return err
		}
		if err := eraseMember(m.tx, member); err != nil {
			return err
		}
	}
	associations, err := associationsOf(m.tx, p.ID)
	if err != nil {
		return err
	}
	for _, a := range associations {
		if err := eraseAssociation(m.tx, &a); err != nil {
			return err
		}
	}
	if err := m.tx.Delete(bucketPoolsBySubnet, p.SubnetID+"/"+p.ID); err != nil {
		return err
	}
	m.touch(p.ID)
	return poolRecords().erase(m.tx, p)
}
