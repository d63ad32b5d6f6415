// Package loader makes balancers real on this machine: it owns the pools' network
// namespaces, devices, guards and routes, loads and attaches the programs of package
// bpf, and fills their maps through package maps. A [Node] is told what a pool shall
// look like ([Node.Apply]) and compares, repairs, or removes.
//
// It may touch what is named after its pools, the state directory and the bpffs it
// was given, and nothing else of the machine. It knows no HTTP, no storage and no
// monitors; liveness comes in by [Node.SetMemberUp].
//
// # A deployed pool
//
//	bridge ── tap<port> ┄┄ veth ┄┄ ns-<port>   in namespace qlbaas-<pool id>
//	                                 │ tc_lb at ingress (with XDP: xdp_lb before it;
//	                                 │ with tcx: tap_lb at the egress of tap<port>)
//	                                 │ nft table inet qlbaas: the guard
//	                                 └ the VIP, further source addresses, the subnet's
//	                                   route, the default route
//	(on a Linux bridge; package plug says how other interface drivers join a network)
//
//	<bpffs>/pools/<pool id>/v<layout>/maps/<map>, maps/<inner map>_<index>, maps/rodata
//	                                 /programs/<build>/{tc_lb,sweep_ports,xdp_lb,xdp_pass,tap_lb}
//	                                 /links/{tcx,xdp,xdp_peer,tap}
//	<bpffs>/node/v<layout>/maps/half_open…   what the pools of a node share
//	                            half_open6…  and the IPv6 pools, made with the first of them
//	<state-dir>/pools/<pool id>/config.json  for readers, never read back
//
// # The data plane does not need the daemon
//
// All of it is kernel objects. A daemon that starts adopts what its predecessor has
// left, however that ended: maps, slots, serials, liveness, counters and draining
// members are read back from the pins, links stay attached, not a packet is lost.
// Programs of another build are replaced in place by link update. There is no state
// file of our own that could contradict the kernel.
//
// What is not kept over a restart is when a drain has begun: the drain timeout of a
// member that was removed before counts anew.
//
// # Compare and repair
//
// One function, ensureAll, compares a pool with what is wanted and mends what
// differs. Before every single change it calls [Node.step]. That one place is where a
// cancelled operation stops, where tests inject a failure or a crash at every step
// there is, and where a dry run ends: Refresh is ensureAll with a context that
// allows no change. So what Refresh reports is exactly what Apply would do.
//
// # Order
//
// At no moment may the stack answer for the VIP: its RST would end the connections
// of every client. Hence guard, then programs, then address; and removal begins
// with the device. The guard stays in force while a program is missing: then clients
// hear nothing, and retransmit. A hook is changed by attaching at the new place before
// detaching at the old one.
//
// # Decisions
//
// Names are not identities. A namespace is known by its open file: when an operator
// deletes its name, the namespace gets the name back, with every connection in it. A
// device is known by who its peer is, a program's attachment by asking the kernel who
// is attached, never by the pin being there.
//
// The order of locks is operation, build, data (pool.go). A verdict takes the last
// one only, and for reading: it reaches the maps while an Apply is at work.
//
// A pool's number, under which the node's table of handshakes knows it, is random,
// and is kept in the pinned constants of its programs. A member's serial is at least
// the time in seconds when it got its slot. Both must not come back soon after their
// owner has gone, and neither has a place of its own where it could be remembered.
//
// A pool has one address family (family.go), with objects of its own. An IPv6 pool's
// device has a link-local address beside the VIP: the kernel asks for neighbours that
// it looks after by itself from no other. Both addresses are added without duplicate
// address detection, which would keep the VIP silent for a second.
//
// A member that is admin-down or drains is down to programs (pool.go, aside), so that
// its UDP flows have another one with their next datagram.
//
// A build is a digest of programs and constants. The kernel's tag leaves the
// constants out.
//
// Neighbours are "managed" by the kernel (neigh.go): it probes members and gateway
// without the daemon. Programs forward past the stack, which therefore never learns
// that a neighbour answers, or no longer does.
//
// Further source addresses (sources.go) have their places in the generation, and flows
// know them by these; the order in which one comes and goes is there. They are on the
// device as hosts, /32 or /128, so that neither a route nor another address hangs on them.
// Addresses that are nobody's are taken off the device, as they always were.
//
// The expiry's timer (package bpf) holds the programs that started it, and whatever maps
// they work on. So it is handed over wherever programs are exchanged, and it ends with the
// pins and descriptors of its map.
//
// The table of flows cannot grow, so another limit means another table (resize.go).
// Connections go on; new ones have to come again for the time of the move.
//
// From within its own namespace nobody reaches the VIP: the stack would deliver that
// past the programs, and the guard drops it.
//
// The default limit of open files must be raised for many pools: each holds some 30
// descriptors, two per member, and one more per member and further source address. (LimitNOFILE; Go raises the soft limit itself.)
package loader
