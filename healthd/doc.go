// Package healthd asks the members of pools whether they serve, and says so when
// the answer changes.
//
// # What it is
//
// A [Checker] is told the wanted state of each pool ([Checker.Set]): its members,
// and the checks every one of them has to pass. For each member and check it runs
// one goroutine (run.go) that waits, probes, and feeds the outcome to a rise and
// fall machine (state.go, pure). A member is up when all its checks are up. When
// that changes, its reporter (report.go) calls the [Sink].
//
//	Set ──> member ──> check ──> wait ─> slot ─> probe ─> state.step ─┐
//	          │           └─────────────<──────────────────────────────┤
//	          └──> reporter ──> Sink.SetUp (on change only) <──────────┘
//
// It may open sockets, and only those that [Sockets] hands out: they live in the
// network namespace of the pool, which may hold the same addresses as any other
// pool's. It never touches BPF maps, storage, the network configuration or the
// environment, and it knows no object of the API: the callers translate.
//
// # Timing
//
// The delay is the gap between the end of one probe and the start of the next; the
// timeout bounds a whole probe, connecting included. A random wait of at most
// min(delay, 1 s) comes before a check's first probe and nowhere else. So a member
// is down, counted from the moment it stops to serve, within
//
//	delay · max_retries + 1 s              when it refuses at once,
//	(delay + timeout) · max_retries + 1 s  when it hangs.
//
// Going down takes max_retries failures in a row, coming up two passes in a row.
//
// # Whose fault
//
// A probe passes, fails, or is void. Void ones say nothing about the member and
// change nothing: no socket to be had (file descriptors, memory, local ports, the
// namespace being rebuilt), or this process stood still while the probe was under
// way (stall.go). Without that, a stopped or starved daemon would on waking take
// every member down at once.
//
// # Bounds
//
// Each member and check has at most one probe in flight, all together at most
// Options.MaxInFlight. Those whose latest probe timed out share three quarters of
// that, so a crowd of hanging members cannot keep those that answer from being
// asked. At the bound a probe waits its turn before its timeout starts to run:
// verdicts come later, they do not become wrong.
//
// # Why
//
//   - One goroutine per check, no worker pool and no timer wheel: its wait is its
//     schedule, so that nothing hanging delays anything else, and the code reads in
//     the order in which things happen. A parked goroutine costs some kilobytes.
//   - The connection is made here instead of in net.Dialer: a socket belongs to the
//     namespace of the thread that calls socket(2), and the dialer gives no hold on
//     that thread. The caller's Sockets does that one call in the namespace; all
//     waiting is done by the runtime's poller and holds no thread.
//   - HTTP is spoken with http.ReadResponse on that connection, not through
//     http.Transport: one request over one connection that is never shared leaves
//     the transport nothing to do but start three more goroutines for each probe,
//     and a probe that never touches a pool of connections cannot mix two tenants
//     up. No proxy, redirect, cookie, keep-alive or HTTP/2 exists on this path.
//   - HTTPS verifies no certificate and accepts old TLS versions and ciphers: the
//     probe sends no secret, and the question is whether clients get an answer. A
//     certificate that crypto/x509 cannot parse at all still fails the probe.
//   - PING is a real ICMP echo, one raw socket per probe, connected so that the
//     kernel hands it the packets of that member only. The kernel's ping sockets
//     are closed to every group by default.
//   - The reasons kept and reported name the step and an error of ours or of the
//     kernel; text that a member sent is never part of them.
//   - TCP connections are closed by a reset, unless the member closed first: a
//     probe must not leave TIME_WAIT sockets on the few local ports of a namespace.
//   - HTTP's Host is the member's address without the port, as the monitor's
//     definition says; virtual hosts are matched without it.
package healthd
