// Package l7 is the sidecar of a pool with cookie persistence: the one place where a
// packet of a client reaches user space. The kernel balances connections, and a cookie
// is inside one; somebody has to read it. So `qlbaas l7` runs beside such a pool, one
// process each, takes what is addressed to VIP:port, and gives every request to a member.
//
//	clients ──> VIP:port ──────────┐            ┌──> member
//	                               v            │
//	            ┌─────────────────────────────────┐
//	  agent ──> │ control   pool   proxy    cookie│   members see the VIP as client
//	            └─────────────────────────────────┘
//	     unix socket,             jail: no files, no exec, no other sockets
//	     a line per question
//
// # The life of a request
//
//  1. The kernel completes the handshake; the proxy accepts, unless the connection limit
//     is reached: then the client waits in the listening socket's queue (proxy.Server).
//  2. The head is awaited, bounded in time, bytes and lines, and parsed by fasthttp
//     (proxy, request.go). What is ambiguous ends here with 400.
//  3. The pool is asked for a member (pool.Pool.Choose): the one whose cookie the request
//     presents, if it is known, unforged and its member serves; otherwise the next one by
//     the pool's method.
//  4. A connection to it that rests is taken, or a new one made, from the VIP's address.
//     Whoever refuses is passed by for another member. The head is written anew: without
//     the SRV cookie, without lines of one connection, X-Forwarded-For last.
//  5. The body goes up while the answer may already come down; both stay in the kernel if
//     their length is known.
//  6. The answer's head is parsed and written anew. New clients get Set-Cookie: SRV=…, and
//     Cache-control: private where a cache might keep it. With APP_COOKIE the member's
//     own Set-Cookie is read and remembered, and nothing is changed.
//  7. Both connections wait for their next request. The client's next one is chosen for
//     anew: persistence is by request, not by connection.
//
// # Who writes what
//
//   - wanted state (members, weights, liveness, method, cookies, keys, limits): the agent,
//     whole, by control.Client.Apply; liveness alone by SetUp. Nobody else.
//   - learned application cookies: the proxy, when a member sets one. They survive new
//     configurations and a new version of the program, not a crash.
//   - counters: the proxy. The agent reads them; they go on while there is no agent, and
//     a new version starts where the old one was.
//   - the listening sockets: made by the agent, which keeps a copy, so that clients wait
//     instead of being refused while a crashed sidecar is replaced.
//
// Nothing is on disk, and nothing is in BPF maps: the process has no way to reach them
// (package jail).
//
// # Limits, and what happens at them
//
//   - clients at once: the user's connection limit, at most proxy.MostConnections. The
//     others wait, unanswered, until one is gone.
//   - connections of one address without a complete request: 256. The oldest one older
//     than a second is closed; from four times as many on, the oldest at once. Honest
//     clients behind the same address go on.
//   - a request's head: 32 KiB, 256 lines: 431. 10 s from its first byte: 408.
//   - silence of a client: 50 s. Before its first request 408, between requests the
//     connection is closed. A body must bring 512 bytes in that time, or 408.
//   - silence of a member that has the whole request: 50 s, 504. A member that breaks off
//     before its head: 502; in the body: the client's connection is reset, so that it
//     does not take a part for all.
//   - a member's head: 16 KiB, and at most 16 of 1xx: 502.
//   - connecting to a member: 5 s, four attempts, on others first: then 503. Nobody to
//     choose from: 503 at once.
//   - learned cookies: 65,536, three hours without use. The one used longest ago gives
//     way; its client is balanced anew.
//   - file descriptors: two per client, four while a body is spliced. Whoever starts the
//     process must allow 66,000. Out of them new clients wait, and requests that need a
//     new connection to a member end with 503.
//   - a tunnel (WebSocket): the same silence, of both sides together.
//   - members that are removed or admin-down: requests under way end, or are reset at the
//     drain timeout.
//
// # Upgrade, crash, hang
//
// A successor is started with a connection to its predecessor's control socket
// ([Options]). It takes sockets, configuration, counters and learned cookies, begins to
// accept, and then retires the predecessor, which ends each connection with its next
// answer, and passes on what it learns and counts until then. No connection is refused.
//
// A crash shows as the end of the control connection, a hang as a question (Stats) that
// is not answered in time: answering takes the locks that serving takes.
package l7
