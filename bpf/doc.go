// Package bpf holds the balancer itself: the C programs that the kernel runs for
// every packet of a pool, and the Go bindings that bpf2go makes of them. Nothing
// here knows of pools as tenants see them; packages maps and loader do.
//
// # A packet's walk
//
// A pool's namespace has one device. Clients send to the VIP, members answer to the
// VIP, so both directions arrive there and leave there, and one program sees all:
//
//	client C:cp ──► V:vp ┐                     ┌ S:np ──► member M:mp
//	                     ├── ns-<port> ── lb ──┤
//	client C:cp ◄── V:vp ┘                     └ S:np ◄── member M:mp
//
//	parse      headers, lengths against each other and the frame     parse.h
//	flow       found: keep its state, forward                        conntrack.h
//	handshake  found: SYN again, SYN-ACK, or the ACK that promotes   handshake.h, halfopen.h
//	stranger   a first SYN: limits, member, port, both halves        stranger.h, select.h,
//	                                                                  open.h, ports.h, cookie.h
//	forward    route, then rewrite addresses, ports, timestamp, TTL  route.h, nat.h, tcpopt.h
//	verdict    the only exit; counts what became of it               lb.h, stats.h, answer.h
//
// lib/lb.h reads in that order. Every step returns 0 (go on), a negative DROP_ (it
// ends here, for that reason) or a STOP_. The state of the balancer stands in
// lib/types.h and lib/maps.h, the reasons in lib/outcome.h.
//
// # Hooks
//
// tc_lb runs on tcx (or as a clsact filter on kernels before 6.6) and can finish
// every packet: it keeps GSO super-packets whole, copes with partial checksums,
// lets the kernel resolve a neighbour, and can answer. xdp_lb is the same source
// compiled for XDP, as a fast lane: what it cannot finish it passes on untouched
// and uncounted to tc_lb, which the loader always attaches behind it. Another fast lane is
// tap_lb, at the egress of the outside device: it turns packets of established flows around
// into the bridge before they cross the veth pair, and leaves all others to tc_lb. A packet
// that it has turned around comes out of the pool's port of the bridge with the pool's MAC,
// as any other of the pool's does, so that whatever filters there sees both directions.
//
// # Decisions
//
// Members are chosen at the SYN and the choice counts at once, half-open
// connections included: otherwise a burst of SYNs falls on one member.
//
// Two entries make a connection, found by the tuple as it arrives. The client
// side's speaks for the connection; whoever sets FLOW_DEAD in it deletes the pair.
//
// Handshakes live in a table of their own, which all pools of the node share, in
// order of arrival. Only the ACK of the member's own sequence number makes a flow
// of a handshake, so no flood of SYNs, and no blind ACK, ever holds a flow.
//
// A pool with 8,192 handshakes in flight, or a good part of that while the node's ring
// overflows, opens nothing for a SYN any more: it is answered by a cookie, and the member
// is asked when the client brings it back. Members thus get no more of a flood than
// handshakes expire (five seconds then), and ports and ring have room. What needs memory
// cannot be agreed upon in such a handshake: connections made by cookie have no window
// scale, no selective acknowledgment and no timestamps, and their members' sequence
// numbers are shifted for life. The numbers are the kernel's (bpf_tcp_raw_gen_syncookie).
//
// A VIP may have up to 16 source addresses, each with the whole range of ports toward
// each member; they take turns. Place 0 is the VIP's own, and an address keeps its place
// as long as the VIP has it, because flows and port bitmaps name it by that.
//
// Fragments are dropped: a port is only in the first one. Nor is anything cut into
// fragments: what is longer than the next link allows ends here, DF or not. Packets
// with IP options end here; IPv6 options are carried on, not looked into, but for a source
// route, which ends here too.
//
// A RST ends a flow only when its sequence number is exactly what the sender would
// use or the receiver waits for. Everything else is passed on for the endpoint to
// judge (RFC 5961), and the flow stays. For that the flow remembers numbers only from
// segments near to what it has seen; a forged one must not prepare a forged RST.
//
// A closed flow stays for ten seconds, for its last ACKs, and, if it had no
// timestamps, for sixty, so that its port rests while the member may hold it in
// TIME-WAIT. When the table is nearly full new connections clear such flows away
// themselves, a few at a time and oldest ports first. That is rationed, for it costs far
// more than a SYN: a full table's search takes an eighth of a CPU at most, also while who
// fills it closes and opens. The daemon walks all ports, and while it is silent a timer in the kernel
// does, so that tables do not fill up with what is over.
//
// There is one device, so a packet with a member's address as its source may be a
// client's: members may use the VIP. Its answer comes back through us like any other's.
//
// An ARP reply, or a neighbour advertisement, in which another host claims an address of
// ours is counted (event arp_conflict) and left alone: it is not for us to decide who is
// right.
//
// The route of a flow is asked for twice a second; between, its packets go where the
// last one went. So established flows follow a change of routes or of a neighbour's MAC
// within 0.54 seconds, at the outside device within 1.1, new ones at once.
//
// Levels (flows, handshakes, conns, active) follow what was really done: who deletes
// an entry, sets or clears a port's bit, or closes a flow counts it, and nobody else.
// So two CPUs, or a packet and the expiry, may meet at an entry without a lock.
//
// Who sends what cannot travel on hears why: a RST for a segment of no flow, time
// exceeded, fragmentation needed (packet too big), port unreachable for a datagram that
// nobody takes. Anybody can ask for these, so a pool gives at most a hundred a second;
// a refused SYN is always answered. There is no answer to ICMP, to a RST, nor to a packet
// with IP options or extension headers. They quote the packet as it came.
//
// ICMP errors about what was sent on are turned back into what the sender would have
// got without us, sums and quote included, and change nothing here: they can be forged.
// An error whose numbers are far from the flow's, or whose MTU no path has, ends here. So
// does one that calls a ping of the VIP's own too big: the stack would believe it, and
// every flow that goes the same way would have to make its segments smaller. (The guard
// drops those that come in fragments or by multicast.) What is quoted keeps the
// timestamps that its receiver would have got; nobody reads them there.
//
// A datagram's flow stands at once and counts as established. If its member goes down,
// the client's next datagram goes to another one. So does a SYN that is sent again.
//
// A member without a free port is passed over for the method's next choice; a persistent
// client stays with his member, and is refused.
//
// A packet of no connection is no_entry if it is for the listener, and nat_nomap if it is
// for a port of ours toward members, whoever sends it. A member's own connections, and
// answers to the namespace's sockets, are for other addresses or ports, and pass.
//
// # Floating IPs
//
// A router's legs have programs of their own, tc_fip and xdp_fip (lib/fip.h): they turn a
// floating IP into the address that it stands for, and back, on each packet for itself.
//
//	parse      what is whole and plain IPv4, for the leg's own MAC      fip_parse.h
//	whose      floating IP it is; who cannot have sent it ends here     fip.h
//	transport  where the sum is that covers the addresses
//	quote      an ICMP error's, seen from the other side                fip_icmp.h
//	route      it must lead through the other side of the router
//	rewrite    addresses, sums by what changed, one hop less
//
// Every protocol goes through, fragments as well: an address stands in each of them, and
// the sum in the first. Whatever needs more than that is left to the stack, untouched, and
// its NAT knows the same addresses (package loader/router). Fragments all take one way: by
// the stack if the next link is narrower than the last one, because then some must be cut.
// An ICMP error of a router behind the floating IP's host, which has none of its own, leaves
// by that of the host.
//
// # Tests
//
// The tests send frames through the loaded programs by BPF_PROG_TEST_RUN, in a network
// namespace with real routes and neighbours. world.expect checks all there is to a
// packet: what became of it, its bytes and sums, every table, level and counter, and
// that nothing else has changed. Each runs on tc alone and on XDP with tc behind it.
// That call has no VLAN tags, no partial checksums and sends nothing where a program
// redirects to; those are left to tests on a wire.
//
// # Building
//
// The objects are committed. go generate needs clang 19 and llvm-strip 19, whose
// output is the same on every machine; another clang's is not.
package bpf

//go:generate go tool bpf2go -output-stem tc_lb4 -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Iinclude -I/usr/include/x86_64-linux-gnu" -type addr -type flow -type vip -type member -type schedule_block -type weight_block -type member_state -type member_counters -type affinity -type sweep -type flow_state -type vip_flags -type method -type member_flags -type sweep_flags -type event -type verdict -type drop_reason Lb4 tc_lb4.c
//go:generate go tool bpf2go -output-stem xdp_lb4 -no-global-types -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Iinclude -I/usr/include/x86_64-linux-gnu" XdpLb4 xdp_lb4.c
//go:generate go tool bpf2go -output-stem tap_lb4 -no-global-types -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Iinclude -I/usr/include/x86_64-linux-gnu" TapLb4 tap_lb4.c
//go:generate go tool bpf2go -output-stem tc_lb6 -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Iinclude -I/usr/include/x86_64-linux-gnu" -type addr -type flow -type vip -type member -type schedule_block -type weight_block -type member_state -type member_counters -type affinity -type sweep -type flow_state -type vip_flags -type method -type member_flags -type sweep_flags -type event -type verdict -type drop_reason Lb6 tc_lb6.c
//go:generate go tool bpf2go -output-stem xdp_lb6 -no-global-types -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Iinclude -I/usr/include/x86_64-linux-gnu" XdpLb6 xdp_lb6.c
//go:generate go tool bpf2go -output-stem tap_lb6 -no-global-types -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Iinclude -I/usr/include/x86_64-linux-gnu" TapLb6 tap_lb6.c
//go:generate go tool bpf2go -output-stem tc_fip4 -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Iinclude -I/usr/include/x86_64-linux-gnu" -type leg_role Fip4 tc_fip4.c
//go:generate go tool bpf2go -output-stem xdp_fip4 -no-global-types -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Iinclude -I/usr/include/x86_64-linux-gnu" XdpFip4 xdp_fip4.c
