// Package control is how a sidecar is told what to do, and asked what it did, over a
// unix socket: a line of JSON each way per question.
//
//	{"op":"apply","config":{…}}                the wanted state, whole       -> {}
//	{"op":"health","member":ID,"up":false}     one member's liveness        -> {}
//	{"op":"stats"}                             counters, generation, health -> {"stats":{…}}
//	{"op":"handover"}                          -> {"state":{…}} and the two listening sockets
//	{"op":"retire"}                            accept no more, finish, end  -> {"stats":{…}} …
//
// An error is {"error":"…"} and means that nothing was changed.
//
// The sidecar gets the listening control socket from whoever starts it, as it gets the
// clients' one: it needs no access to any path. Questions of one connection are
// answered in order. Configurations carry a generation, which the sidecar reports; on one
// connection it never goes back, so that an answer that took long changes nothing. A new
// connection may begin anywhere: the agent has been restarted, or its database restored.
//
// # Handover
//
// A new version of the program is started beside the old one, with a connection to the
// old one's control socket. It takes state and sockets, prepares, and only then tells
// the old one to retire. Both accept from the same socket meanwhile, so no connection is
// ever refused. The old one closes its connections as they end, and reports on the same
// connection what it still counts and learns, until it is gone.
//
// Whoever is connected to the old one stays so. An agent that has started a successor
// dials again until Stats tells the new process's id, and then applies its wanted state:
// what it wrote meanwhile may have reached the old one alone.
//
// # Who starts it
//
// The agent makes both sockets, starts `qlbaas l7 --from VIP --clients-fd N --control-fd
// M` as an ordinary user, in a session of its own and with a log that outlives the agent,
// and keeps a copy of the clients' socket. With that, a sidecar that has crashed, or has
// not answered Stats in time and was killed, is started anew, and nobody is refused
// meanwhile; its counters start from zero, and it serves from the first Apply on. A
// restarted agent dials the path, finds the sidecar by Stats, gets its copy of the
// sockets by Inherit, which changes nothing, and applies its wanted state.
package control
