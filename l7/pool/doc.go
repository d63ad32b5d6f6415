// Package pool decides which member serves a request: persistence first, then the
// pool's method, with the same meaning as in pools that the kernel balances.
//
//	Choose ─> value of the SRV cookie ──┐
//	          learned application cookie ┼─> member up? ─yes─> kept
//	                                     └──no──> method ─> member, cookie to be set
//
// It opens no connection and knows no HTTP. Its caller says how a request presented
// itself ([Query]), and reports when the member is done with it ([Member.Done]), so that
// LEAST_CONNECTIONS counts what is under way.
//
// A [Config] is applied whole. A member keeps its counters, its place in the turn and its
// learned cookies as long as its id stays; what was counted for removed members stays in
// the pool's totals.
//
// # Why
//
//   - ROUND_ROBIN is the smooth weighted one that the kernel's schedule is built with,
//     run live: a pool of this kind chooses once per new client, so a scan of the
//     members costs less than keeping tables.
//   - When the set of usable members changes, credits start anew behind the member that
//     had the last turn. Keeping credits would pay a debt to nobody: a neighbour would
//     have two turns in a row.
//   - SOURCE_IP is rendezvous hashing: a change of members moves only the clients of
//     those that changed.
//   - A presented cookie is looked up by a hash under a seed of this process and then
//     compared in constant time, so that answering time tells nothing about values that
//     would be accepted.
package pool
