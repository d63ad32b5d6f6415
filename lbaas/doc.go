// Package lbaas is the load balancing service: what pools, VIPs, members, health
// monitors, networks, subnets, ports, routers and floating IPs are, which changes to
// them are allowed, and where addresses come from. It keeps the words and rules of
// OpenStack Neutron and its LBaaS v1, so that their clients work unchanged.
//
// Service has the operations. Package api gives them a REST form; package
// reconcile reads what a pool or a router should be (PoolConfig, RouterConfig), makes
// the node so, and reports back (SetStatuses, CloseStats). This package knows neither HTTP nor the
// kernel, and imports no other package of this program; what it needs of them it
// states as interfaces: Store, Admission, Notifier, StatsSource.
//
// # How it is built
//
// Every collection is a table of attributes (attribute.go) with a kind each that
// coerces and validates, beside the functions that show, create, alter and
// destroy one object (pool.go, vip.go …). Everything else (required, read-only and
// unknown attributes, tenancy, quotas, lists, audit) is done once for all of them
// in attribute.go, resource.go and list.go. A further collection is one more
// table.
//
// Every method is one transaction of the Store, and a change is durable before
// it is answered. After that the Notifier hears which pools to look at. Objects
// carry the revision of their last change by a user (Generation); a report from
// the node says which one it speaks of and is dropped when it is outdated, so
// that an old success never covers a newer intent.
//
// Indexes (members by pool, ports by network …) are buckets of their own, kept in
// step within the same transactions.
//
// # Where it departs from the original, and why
//
//   - VipExists, MemberExists and StateInvalid are answered with 409, wrong cookie
//     rules with 400; the original answered 500.
//   - A PUT that does not name session_persistence leaves it alone.
//   - A VIP moves between pools in one transaction; the old pool is told first,
//     because both deployments use the same port.
//   - A filter for the name of something that has no name finds nothing. The
//     original ignored it, and deleting a mistyped member deleted another one.
//   - An administrator without a project works in the project "default".
//   - Members and associations join objects of one project only; the original
//     checked that for VIPs. Nobody should learn of, or lose, traffic by an object
//     that its owner can't see.
//   - Members can't have addresses that no other host has (loopback, link-local,
//     multicast, …) nor the VIP's own, whichever of the two comes first. The port
//     does not matter: the address belongs to one host only.
//   - A pool can have the protocol UDP. Its monitors are those there are: PING says
//     that the host lives, TCP and HTTP ask the member's address and port for what
//     many UDP services (DNS) speak beside. A UDP probe would need to know what the
//     service answers.
//   - A VIP and its members are of one address family. The families are told apart
//     by the VIP, so a pool without one accepts both.
//   - delay and timeout are at least 1 s: a probe needs time.
//   - Pool statistics only grow: what a deployment counted is added to the pool's
//     base when it is removed, once (CloseStats).
//   - An address that is given back rests until all others of the subnet have been
//     used: neighbours may still know its former hardware address. An address that
//     a member of the pool answers on is not given to its VIP.
//
// # Routers and floating IPs
//
// A router's interface is a port with the subnet's gateway as its address, or a port
// that a user made; its gateway is a port on an external network. That port, and the
// one that holds a floating IP's address, belong to no project, as in the original:
// they are seen by administrators only and count for no quota. A floating IP knows the
// router that translates for it; what the router or the address of the port needs
// cannot be taken away, but the port can, and then the floating IP stands for nothing.
//
//   - A router is in BUILD until the node has made it, then ACTIVE or ERROR with the
//     reason in status_description. A floating IP is ACTIVE while the node translates.
//   - Routers join IPv4 subnets, with one address each, and so do floating IPs: IPv6
//     needs no translation.
//   - The floating IP of a VIP stands for its address, also where its port has further
//     ones (snat_addresses), which are not for clients.
//   - A request that does not name port_id leaves a floating IP where it is; the
//     original let go of the port whatever was changed.
//   - Of several routers that join both networks the subnet's gateway translates. That
//     of a third project does so for administrators only.
//   - A route's destination is there once, is none of the router's own networks, and is
//     not everything where the gateway is the default route: the last word would
//     otherwise be the kernel's.
//   - A port that loses the address that a floating IP stands for loses the floating IP.
//
// # Cookies
//
// Cookie persistence is for HTTP. On TCP and HTTPS it is accepted and has no effect, as
// ever; on UDP it is refused (persistenceFor). A pool gets a secret key when HTTP_COOKIE
// is first switched on and keeps it for good, so that clients are known again.
package lbaas
