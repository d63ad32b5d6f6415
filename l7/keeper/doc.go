// Package keeper keeps the sidecars of this node: one process per pool whose cookies
// have to be read, inside the pool's network namespace.
//
//	reconcile ── Ensure, SetMemberUp, Retire, Remove ──> Keeper ── control socket ──> sidecar
//	                                                       │  watches, starts anew ──────^
//	                                                       └─ holds the listening socket as well
//
// It knows processes and sockets; of namespaces it knows only how to run something in
// one ([Spaces]). It decides nothing about balancers, and never touches BPF.
//
// # Life
//
// A sidecar outlives the agent. [New] finds those that an earlier agent has left by their
// control sockets (RUN-DIR/l7/<pool>.sock, in a directory for root alone) and takes them
// over: configuration, counters and the listening socket come from them. One of another
// version hands over to a new one, and no connection is refused meanwhile.
//
// The keeper has the listening socket too. So while a sidecar is dead, clients' handshakes
// still complete and wait for the next one. Every sidecar, even the first, is started as
// the successor of another: where there is none that could answer, the keeper plays it
// (see succession.go) and hands over the configuration, the counters and the learned
// cookies that it heard of last.
//
// # Watching
//
// Every sidecar is asked for its counters five times a second. One that has gone is
// replaced at once. One that is silent for 500 ms is killed and replaced, unless some
// thread of it waits for a processor or a disk: then it is the machine that is slow, and it gets
// three seconds. One that dies again and again is started with growing pauses, and Ensure
// tells why.
//
// What was counted in the last fifth of a second before a crash is lost, and so are
// cookies that were learned in the last seconds.
//
// # Rights
//
// Each pool's sidecar has a user and group id of its own, from 1879048192 on (see
// [UserOf]): a range in which neither systems nor containers put users. It has no groups
// and no capabilities, and locks itself in before it serves. It gets a connection for its
// questions and reaches no path. Its program is executed through a descriptor, so it may
// lie where that user cannot look; it must be executable by everybody.
//
// A process is believed to be a pool's sidecar only if its user is that pool's: whatever a
// sidecar says about its process id, nothing else is ever killed.
package keeper
