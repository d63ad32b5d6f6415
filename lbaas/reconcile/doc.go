// Package reconcile makes the node look as the store wants it, and tells the
// store what became of it.
//
//	Service ── PoolsChanged ──> queue ──> worker: read the pool whole, compare with
//	   ^                          ^               the node, apply, set its checks
//	   │                          │ drift, retry, orphans        │
//	   └── statuses, coalesced <──┴───────────────┬──────────────┘
//	healthd ── SetUp ──> kernel map first ────────┘
//
// Routers take the same way in a queue of their own: RoutersChanged, RouterConfig,
// RouterNode.Apply (router.go). Only liveness and counters of deployments, which they
// do not have, are missing. After a failure the router is in ERROR; floating IPs that
// worked are still ACTIVE while the router is on the node, since it goes on as before.
//
// Nothing is carried over from one attempt to the next: an attempt reads the pool
// as the store has it now and hands the whole of it to the node, which compares
// and repairs. So an event may be lost, repeated or late, the process may die at
// any point, and the next attempt still ends right.
//
// It calls the node, the checker and the store by the small interfaces in
// interfaces.go, imports loader and healthd for their plain data only, and makes
// no kernel call, opens no file and speaks no HTTP. It never decides what a user
// may want; that is package lbaas.
//
// # Order and failure
//
// A pool has one worker at a time. Pools that one change touches are begun in the
// order in which the change names them: a VIP that moves leaves its old pool
// before the new one takes its devices. An attempt that fails leaves on the node
// what was there, gives the pool (and whatever was waiting for this attempt) the
// status ERROR with the cause, and is repeated with growing pauses; a new event
// ends the pause.
//
// # Start
//
// Start adopts before it returns: first what has to go (pools that lost their VIP,
// orphans), then every pool is applied. Liveness comes from the kernel's maps, so
// a member that was down stays down until a probe says otherwise. Only then does
// the agent open its API.
//
// A store that is only a backup (Options.ReadOnly) is not acted upon: what is
// deployed goes on being probed, expired and counted, and nothing else happens.
//
// # Why
//
//   - Orphans are removed only when the store knows at least one pool, or the
//     operator said that an empty store is meant. A lost store must not take the
//     traffic down with it.
//   - A verdict goes to the kernel before anything else, and its record in the store
//     is written in the background, many at once: a thousand members that flap cost
//     a few writes a second.
//   - A member's status is read back from the kernel's map instead of from the
//     verdict: it says what the data plane does.
//   - Counters of a deployment are added to the pool's base before it is removed,
//     so that a pool's totals only grow while VIPs come and go.
//   - What cannot be served at all (a network without a bridge) is not retried:
//     only a change of the wanted state can help, and that is an event.
package reconcile
