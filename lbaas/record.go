package lbaas

import (
	"encoding/json"
	"fmt"
	"iter"
)

// The buckets of the store. Those in the second half are indexes: they are kept
// in step by the functions that insert and erase records.
const (
	bucketMeta         = "meta"
	bucketPools        = "pools"
	bucketVIPs         = "vips"
	bucketMembers      = "members"
	bucketMonitors     = "health_monitors"
	bucketAssociations = "associations" // key: pool id / monitor id
	bucketNetworks     = "networks"
	bucketSubnets      = "subnets"
	bucketPorts        = "ports"
	bucketQuotas       = "quotas" // key: tenant
	bucketRouters      = "routers"
	bucketFloatingIPs  = "floatingips"

	bucketMembersByPool    = "members_by_pool"         // pool / address / port -> member
	bucketPoolsBySubnet    = "pools_by_subnet"         // subnet / pool
	bucketAssocByMonitor   = "associations_by_monitor" // monitor / pool
	bucketSubnetsByNetwork = "subnets_by_network"      // network / subnet
	bucketPortsByNetwork   = "ports_by_network"        // network / port
	bucketAddresses        = "addresses"               // subnet / address -> addressRecord
	bucketReleased         = "released"                // subnet / revision / address
	bucketMACs             = "macs"                    // network / mac -> port
	bucketCounts           = "counts"                  // kind / tenant -> number
	bucketPortsByRouter    = "ports_by_router"         // router / port
	bucketLegsBySubnet     = "router_ports_by_subnet"  // subnet / port -> router
	bucketFloatingByPort   = "floatingips_by_port"     // port / floating IP
	bucketFloatingByRouter = "floatingips_by_router"   // router / floating IP
)

// Buckets lists every bucket that the service uses; a Store makes them when it
// is opened.
func Buckets() []string {
	return []string{
		bucketMeta, bucketPools, bucketVIPs, bucketMembers, bucketMonitors, bucketAssociations,
		bucketNetworks, bucketSubnets, bucketPorts, bucketQuotas,
		bucketMembersByPool, bucketPoolsBySubnet, bucketAssocByMonitor, bucketSubnetsByNetwork,
		bucketPortsByNetwork, bucketAddresses, bucketReleased, bucketMACs, bucketCounts,
		bucketRouters, bucketFloatingIPs,
		bucketPortsByRouter, bucketLegsBySubnet, bucketFloatingByPort, bucketFloatingByRouter,
	}
}

// records is the typed view of one bucket of objects. Objects of a counted kind
// are counted by tenant, for quotas.
type records[T any] struct {
	bucket string
	kind   string
	head   func(*T) *Header
	// key overrides that objects are filed under their id.
	key func(*T) string
}

func poolRecords() records[Pool] {
	return records[Pool]{bucket: bucketPools, kind: "pool", head: func(o *Pool) *Header { return &o.Header }}
}

func vipRecords() records[VIP] {
	return records[VIP]{bucket: bucketVIPs, kind: "vip", head: func(o *VIP) *Header { return &o.Header }}
}

func memberRecords() records[Member] {
	return records[Member]{bucket: bucketMembers, kind: "member", head: func(o *Member) *Header { return &o.Header }}
}

func monitorRecords() records[HealthMonitor] {
	return records[HealthMonitor]{bucket: bucketMonitors, kind: "health_monitor", head: func(o *HealthMonitor) *Header { return &o.Header }}
}

func networkRecords() records[Network] {
	return records[Network]{bucket: bucketNetworks, kind: "network", head: func(o *Network) *Header { return &o.Header }}
}

func subnetRecords() records[Subnet] {
	return records[Subnet]{bucket: bucketSubnets, kind: "subnet", head: func(o *Subnet) *Header { return &o.Header }}
}

func portRecords() records[Port] {
	return records[Port]{bucket: bucketPorts, kind: "port", head: func(o *Port) *Header { return &o.Header }}
}

// get returns nil without an error when there is no such object.
func (t records[T]) get(tx Tx, id string) (*T, error) {
	raw := tx.Get(t.bucket, id)
	if raw == nil {
		return nil, nil
	}
	return t.decode(id, raw)
}

func (t records[T]) decode(id string, raw []byte) (*T, error) {
	o := new(T)
	if err := json.Unmarshal(raw, o); err != nil {
		return nil, fmt.Errorf("read %s %s: %w: %w", t.kind, id, ErrStoreDamaged, err)
	}
	return o, nil
}

// must returns an object that another one refers to.
func (t records[T]) must(tx Tx, id string) (*T, error) {
	o, err := t.get(tx, id)
	if err == nil && o == nil {
		err = fmt.Errorf("read %s %s: %w: it is referred to but missing", t.kind, id, ErrStoreDamaged)
	}
	return o, err
}

// all yields every object in the order of ids.
func (t records[T]) all(tx Tx) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		for id, raw := range tx.Scan(t.bucket, "") {
			o, err := t.decode(id, raw)
			if !yield(o, err) || err != nil {
				return
			}
		}
	}
}

// insert stores a new object.
func (t records[T]) insert(tx Tx, o *T) error {
	if err := count(tx, t.kind, t.head(o).TenantID, 1); err != nil {
		return err
	}
	return t.save(tx, o)
}

// save stores an object that is there already.
func (t records[T]) save(tx Tx, o *T) error {
	key := t.head(o).ID
	if t.key != nil {
		key = t.key(o)
	}
	return putJSON(tx, t.bucket, key, o)
}

// erase removes an object.
func (t records[T]) erase(tx Tx, o *T) error {
	if err := count(tx, t.kind, t.head(o).TenantID, -1); err != nil {
		return err
	}
	return tx.Delete(t.bucket, t.head(o).ID)
}

func putJSON(tx Tx, bucket, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s %s: %w", bucket, key, err)
	}
	return tx.Put(bucket, key, raw)
}

// getJSON leaves v alone and returns false when there is no such record.
func getJSON(tx Tx, bucket, key string, v any) (bool, error) {
	raw := tx.Get(bucket, key)
	if raw == nil {
		return false, nil
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, fmt.Errorf("read %s %s: %w: %w", bucket, key, ErrStoreDamaged, err)
	}
	return true, nil
}

// under yields the rest of every key that begins with parent + "/".
func under(tx Tx, bucket, parent string) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for key, value := range tx.Scan(bucket, parent+"/") {
			if !yield(key[len(parent)+1:], value) {
				return
			}
		}
	}
}

// keysUnder collects the rest of the keys, for loops that change the bucket.
func keysUnder(tx Tx, bucket, parent string) []string {
	var keys []string
	for key := range under(tx, bucket, parent) {
		keys = append(keys, key)
	}
	return keys
}

// count changes how many objects of a kind a tenant has. The tenant's name ends
// the key, so that no name can reach into another one's count.
func count(tx Tx, kind, tenant string, by int64) error {
	n, err := counted(tx, kind, tenant)
	if err != nil {
		return err
	}
	key := kind + "/" + tenant
	if n+by <= 0 {
		return tx.Delete(bucketCounts, key)
	}
	return putJSON(tx, bucketCounts, key, n+by)
}

func counted(tx Tx, kind, tenant string) (int64, error) {
	var n int64
	_, err := getJSON(tx, bucketCounts, kind+"/"+tenant, &n)
	return n, err
}
