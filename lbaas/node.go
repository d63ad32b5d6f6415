package lbaas

import (
	"cmp"
	"context"
	"fmt"
	"slices"
)

// PoolConfig is everything that one pool's balancer is made from, as of one
// revision of the store.
type PoolConfig struct {
	// Revision is the store's at the time of reading.
	Revision uint64
	Pool     Pool
	// VIP and what it stands on are nil while the pool has no VIP.
	VIP     *VIP
	Port    *Port
	Subnet  *Subnet
	Network *Network
	// Members in the order of their creation.
	Members []Member
	// Monitors in the order in which they were associated.
	Monitors []MonitorConfig
}

// MonitorConfig is a monitor with its association to the pool.
type MonitorConfig struct {
	Association Association
	Monitor     HealthMonitor
}

// PoolIDs returns the ids of all pools, with and without a VIP, oldest first.
func (s *Service) PoolIDs(ctx context.Context) ([]string, error) {
	var pools []Header
	err := s.opts.Store.View(ctx, func(tx Tx) error {
		pools = nil
		for p, err := range poolRecords().all(tx) {
			if err != nil {
				return err
			}
			pools = append(pools, p.Header)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(pools, func(a, b Header) int { return cmp.Compare(a.Created, b.Created) })
	ids := make([]string, len(pools))
	for i, p := range pools {
		ids[i] = p.ID
	}
	return ids, nil
}

// PoolConfig reads one pool whole. The error of a pool that is not (or no
// longer) there satisfies IsNotFound: whatever is on the node is to be removed.
func (s *Service) PoolConfig(ctx context.Context, poolID string) (PoolConfig, error) {
	var config PoolConfig
	err := s.opts.Store.View(ctx, func(tx Tx) (err error) {
		config, err = poolConfig(tx, poolID)
		return err
	})
	if err != nil {
		return PoolConfig{}, err
	}
	return config, nil
}

func poolConfig(tx Tx, poolID string) (PoolConfig, error) {
	var config PoolConfig
	pool, err := poolRecords().get(tx, poolID)
	if err != nil {
		return config, err
	}
	if pool == nil {
		return config, poolResource().notFound(poolID)
	}
	config.Pool = *pool
	if config.Revision, err = Revision(tx); err != nil {
		return config, err
	}
	if config.Members, err = membersOf(tx, poolID); err != nil {
		return config, err
	}
	associations, err := associationsOf(tx, poolID)
	if err != nil {
		return config, err
	}
	for _, a := range associations {
		monitor, err := monitorRecords().must(tx, a.MonitorID)
		if err != nil {
			return config, err
		}
		config.Monitors = append(config.Monitors, MonitorConfig{a, *monitor})
	}
	if pool.VIPID == "" {
		return config, nil
	}
	return config, config.readVIP(tx)
}

func (c *PoolConfig) readVIP(tx Tx) (err error) {
	if c.VIP, err = vipRecords().must(tx, c.Pool.VIPID); err != nil {
		return err
	}
	if c.Port, err = portRecords().must(tx, c.VIP.PortID); err != nil {
		return err
	}
	if c.Subnet, err = subnetRecords().must(tx, c.VIP.SubnetID); err != nil {
		return err
	}
	c.Network, err = networkRecords().must(tx, c.Port.NetworkID)
	return err
}

// Kind says what a Report speaks of.
type Kind string

// The kinds of objects that have a status from the node.
const (
	KindPool        Kind = "pool"
	KindVIP         Kind = "vip"
	KindMember      Kind = "member"
	KindAssociation Kind = "association"
)

// Report is the outcome of an attempt to make one object real.
type Report struct {
	// Kind is KindPool, KindVIP, KindMember, KindAssociation, KindRouter or KindFloatingIP.
	Kind Kind
	// ID of the object; of an association the monitor's, with PoolID the pool's.
	ID, PoolID string
	// Generation is the one that was acted upon (Header.Generation). The report is
	// dropped when the object has another one by now, or is gone.
	Generation uint64
	Status     Status
	// Description is the reason, empty for none.
	Description string
}

// SetStatuses records reports in one transaction. Reports that change nothing
// cost no write. It triggers no notification.
func (s *Service) SetStatuses(ctx context.Context, reports ...Report) error {
	var news []Report
	err := s.opts.Store.View(ctx, func(tx Tx) error {
		news = nil
		for _, r := range reports {
			changed, err := r.apply(tx, false)
			if err != nil {
				return err
			}
			if changed {
				news = append(news, r)
			}
		}
		return nil
	})
	if err != nil || len(news) == 0 {
		return err
	}
	return s.opts.Store.Update(ctx, func(tx Tx) error {
		for _, r := range news {
			if _, err := r.apply(tx, true); err != nil {
				return err
			}
		}
		return nil
	})
}

// apply tells whether the report says something new and, if save is set, stores it.
func (r Report) apply(tx Tx, save bool) (bool, error) {
	switch r.Kind {
	case KindPool:
		return applyTo(tx, r, r.ID, poolRecords(), func(o *Pool) *State { return &o.State }, save)
	case KindVIP:
		return applyTo(tx, r, r.ID, vipRecords(), func(o *VIP) *State { return &o.State }, save)
	case KindMember:
		return applyTo(tx, r, r.ID, memberRecords(), func(o *Member) *State { return &o.State }, save)
	case KindAssociation:
		key := r.PoolID + "/" + r.ID
		return applyTo(tx, r, key, associationRecords(), func(o *Association) *State { return &o.State }, save)
	case KindRouter:
		return applyTo(tx, r, r.ID, routerRecords(), func(o *Router) *State { return &o.State }, save)
	case KindFloatingIP:
		return applyTo(tx, r, r.ID, floatingRecords(), func(o *FloatingIP) *State { return &o.State }, save)
	}
	return false, fmt.Errorf("report status of %q: the kind is not known", r.Kind)
}

func applyTo[T any](tx Tx, r Report, key string, t records[T], state func(*T) *State, save bool) (bool, error) {
	o, err := t.get(tx, key)
	if o == nil || err != nil || t.head(o).Generation != r.Generation {
		return false, err
	}
	// What comes from the node can hold anything, and is bounded like what users say.
	news := State{Status: r.Status, StatusDescription: printable(r.Description)}
	if *state(o) == news {
		return false, nil
	}
	*state(o) = news
	if !save {
		return true, nil
	}
	return true, t.save(tx, o)
}

// printable makes a reason fit to be shown on any terminal, in at most maxText
// characters.
func printable(s string) string {
	kept := []rune{}
	for _, c := range s {
		if len(kept) == maxText {
			break
		}
		if checkText("", string(c), 1) != nil {
			c = ' '
		}
		kept = append(kept, c)
	}
	return string(kept)
}
