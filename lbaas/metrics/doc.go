// Package metrics shows what balancers and floating IPs carry to Prometheus.
//
// A Collector asks its Source at every scrape and keeps nothing in between: what
// counts lives in the kernel's maps and in the store, and grows on over restarts
// of the agent. It only reads. It knows no HTTP but the handler that the agent
// mounts.
//
// Labels hold ids, directions and names from fixed lists only, never a name that
// a user chose: their number is bounded by the number of objects, and renaming a
// pool does not tear its series apart.
//
// # Why
//
//   - Pool totals are the sum of what the node counts now and what the store keeps
//     of earlier deployments, so that they only grow while VIPs come and go, and are
//     there without a VIP, too. Packets, drops, verdicts and the shares of members
//     are kept by the node alone; they begin anew with the next VIP, which
//     Prometheus takes for the reset of a counter.
//   - A pool whose counters cannot be read is missing from them and 0 in
//     qlbaas_pool_readable. A zero would be a lie, and failing the scrape would
//     hide the other pools. Routers likewise.
//   - Counters of a floating IP begin anew when it comes to another router.
package metrics
