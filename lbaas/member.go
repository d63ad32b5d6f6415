package lbaas

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// MaxMembers is how many members one pool can have.
const MaxMembers = 1024

func memberResource() *typed[Member] {
	return &typed[Member]{
		desc: desc{
			collection: Members, kind: "member", missing: errMemberNotFound,
			attrs: []attribute{
				{name: "id"},
				{name: "tenant_id", access: inPost, kind: textKind(maxText)},
				{name: "pool_id", access: inBoth | required, kind: uuidKind()},
				{name: "address", access: inPost | required, kind: endpointKind()},
				{name: "protocol_port", access: inPost | required, kind: intKind(1, 65535)},
				{name: "weight", access: inBoth, kind: intKind(0, 256), def: int64(1)},
				{name: "admin_state_up", access: inBoth, kind: boolKind(), def: true},
				{name: "status"},
				{name: "status_description"},
			},
		},
		records: memberRecords(),
		object:  showMember,
		create:  createMember,
		alter:   alterMember,
		destroy: func(m *change, e *Member) error {
			m.touch(e.PoolID)
			return eraseMember(m.tx, e)
		},
	}
}

func showMember(_ view, e *Member) (Object, error) {
	return Object{
		"id": e.ID, "tenant_id": e.TenantID, "pool_id": e.PoolID, "address": e.Address.String(),
		"protocol_port": int64(e.ProtocolPort), "weight": e.Weight, "admin_state_up": e.AdminStateUp,
		"status": string(e.Status), "status_description": orNil(e.StatusDescription),
	}, nil
}

// memberKey is the member's place in its pool; a pool has one member per place.
func memberKey(e *Member) string {
	return fmt.Sprintf("%s/%s/%d", e.PoolID, e.Address, e.ProtocolPort)
}

func createMember(m *change, h Header, in values) (*Member, error) {
	e := &Member{Header: h, State: State{Status: StatusPendingCreate}}
	take(in, "pool_id", &e.PoolID)
	take(in, "address", &e.Address)
	e.ProtocolPort = uint16(in["protocol_port"].(int64))
	take(in, "weight", &e.Weight)
	take(in, "admin_state_up", &e.AdminStateUp)
	if err := m.joinPool(e); err != nil {
		return nil, err
	}
	return e, memberRecords().insert(m.tx, e)
}

// joinPool puts a member into the pool that it names, if it may.
func (m *change) joinPool(e *Member) error {
	pool, err := poolResource().find(m.view, e.PoolID)
	if err != nil {
		return err
	}
	if pool.TenantID != e.TenantID {
		return refuse(errNotAuthorized, "The member's project %s is not the project of pool %s",
			quote(e.TenantID), pool.ID)
	}
	if other := m.tx.Get(bucketMembersByPool, memberKey(e)); other != nil {
		return refuse(errMemberExists, "Pool %s has a member with address %s and port %d already: %s",
			e.PoolID, e.Address, e.ProtocolPort, other)
	}
	n := 0
	for range under(m.tx, bucketMembersByPool, pool.ID) {
		n++
	}
	if n >= MaxMembers {
		return refuse(errOverQuota, "Pool %s has %d members, the most that one pool can have", pool.ID, MaxMembers)
	}
	if err := m.checkAgainstVIP(pool, e.Address); err != nil {
		return err
	}
	m.touch(pool.ID)
	return m.tx.Put(bucketMembersByPool, memberKey(e), []byte(e.ID))
}

// checkAgainstVIP refuses a member that the pool's VIP contradicts.
func (m *change) checkAgainstVIP(pool *Pool, addr netip.Addr) error {
	if pool.VIPID == "" {
		return nil
	}
	vip, err := vipRecords().must(m.tx, pool.VIPID)
	if err != nil {
		return err
	}
	subnet, err := subnetRecords().must(m.tx, vip.SubnetID)
	if err != nil {
		return err
	}
	if why := clash(vip, subnet, addr); why != "" {
		return invalid(errBadRequest, "address", "%s %s", addr, why)
	}
	return nil
}

func alterMember(m *change, e *Member, in values) error {
	if err := m.updated("member", &e.Header, &e.State); err != nil {
		return err
	}
	take(in, "weight", &e.Weight)
	take(in, "admin_state_up", &e.AdminStateUp)
	from, to := e.PoolID, e.PoolID
	take(in, "pool_id", &to)
	m.touch(from)
	if to != from {
		if err := m.tx.Delete(bucketMembersByPool, memberKey(e)); err != nil {
			return err
		}
		e.PoolID = to
		if err := m.joinPool(e); err != nil {
			return err
		}
	}
	return memberRecords().save(m.tx, e)
}

func eraseMember(tx Tx, e *Member) error {
	if err := tx.Delete(bucketMembersByPool, memberKey(e)); err != nil {
		return err
	}
	return memberRecords().erase(tx, e)
}

// membersOf returns a pool's members, oldest first.
func membersOf(tx Tx, poolID string) ([]Member, error) {
	var members []Member
	for _, id := range under(tx, bucketMembersByPool, poolID) {
		e, err := memberRecords().must(tx, string(id))
		if err != nil {
			return nil, err
		}
		members = append(members, *e)
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.Created, b.Created) })
	return members, nil
}
