// Package pools measures what a thousand pools cost that nobody uses, and how long a new
// one takes to serve.
//
// The pools are the real agent's: a process of the built binary with its own store, told
// by its API what to do. What one takes is what the machine's memory has shrunk by in the
// kernel (slabs that cannot be taken back, areas, memory per CPU), divided by the number of
// pools, and its share of the agent's private memory. Pools that were made before the first
// look are left out: they pay for what belongs to the node.
//
// The peer is a HAProxy process per pool in a namespace of its own, with one veth pair, as
// Neutron's agent ran them. Two figures are told of it: its private memory alone, which is
// what goals are held against, and with what its namespace and process take in the kernel,
// found like ours.
//
// A pool serves when the first of a client's requests has its answer. The client begins one
// every few milliseconds, beginning with the call that creates the VIP, which is the last of
// a balancer's objects.
package pools
