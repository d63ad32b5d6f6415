// Package traffic measures what a balancer adds to requests and bulk traffic: CPU, latency,
// and what it takes from their rate. The balancer on each of its hooks stands beside its
// peers in one network:
//
//	client ──┬── bridge ──┬── web1  nginx
//	         │            └── web2  nginx
//	         └── a namespace per balancer: HAProxy, nftables, the floor, ours on every hook
//
// Each name is a network namespace, plugged into the bridge by a veth pair; the bridge is in
// the program's own. "direct" is the client at the members without a balancer; where there
// are many connections, half of them at each member; a single one has the first. Each balancer has an address of its
// own, so that what one leaves in the members' TIME_WAIT is in nobody else's way.
//
// # Rounds
//
// A row of the table is measured in rounds. In each one all subjects have their turn, in an
// order that changes, so that whatever else happens on the machine happens to all of them.
// Goals compare what was measured in the same round; the first round only warms up.
//
// # Added cost
//
// Rows of one connection run on one CPU: client, members and proxies share it, and wake each
// other without a signal to another CPU. Cost is what the whole machine was busy, by the
// idle time in /proc/stat, over the number of requests. Of that the cost without balancer is
// taken off, round by round. A difference smaller than what direct varies by itself (the
// median distance of its rounds from their median) says nothing: in goals it counts as that
// much, for both sides.
//
// wrk's latency begins with the request; a handshake before it is not in it. It is in the
// time per request, which for a single connection is the inverse of its rate.
//
// # The way
//
// Devices, the stack and the programs count packets. What did not go the way that its name
// says is reported as a note, as are errors of wrk.
package traffic
