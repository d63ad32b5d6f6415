// Package router makes routers and their floating IPs real on this machine. A [Node] is
// told what a router shall look like ([Node.Apply]) and compares, repairs, or removes, in
// the manner of package loader, whose means it shares (packages change, netspace, rtnl,
// device, plug, setting, ruleset, pin, hook, announce). Its caller holds the node's lock and looks
// after the bpffs: both are package loader's.
//
// # A deployed router
//
//	bridge ── tap<port> ┄┄ veth ┄┄ qg-<port>   external leg, in namespace qrouter-<router id>
//	bridge ── tap<port> ┄┄ veth ┄┄ qr-<port>   a leg per inside network (or as package plug says)
//	                                │ tc_fip at ingress of every leg (with XDP: xdp_fip before
//	                                │ it, xdp_pass on every tap)
//	                                │ nft table ip qlbaas
//	                                └ addresses, routes, managed neighbours
//
//	<bpffs>/routers/<router id>/v<layout>/maps/<map>
//	                                     /programs/<build>/{tc_fip,xdp_fip,xdp_pass}
//	                                     /links/<port>_{tcx,xdp,xdp_peer}
//
// # Programs and stack
//
// The programs (package bpf) translate what is a floating IP's between the external leg and
// the inside legs, keep no state, and leave everything else to the stack. The stack is a
// router for all of it, with a NAT that knows the same floating IPs:
//
//	table ip qlbaas {
//		map floating { type ipv4_addr : ipv4_addr }    # to its host
//		map fixed { type ipv4_addr : ipv4_addr }       # and back
//		chain input { policy drop;
//			iifname lo accept
//			ct state established,related accept
//			icmp type echo-request limit rate 1000/second burst 200 packets accept
//		}
//		chain forward { policy drop;
//			iifname QG oifname QG drop
//			iifname != QG accept
//			ct state established,related accept
//			ct status dnat accept
//			accept                                     # without SNAT
//		}
//		chain prerouting { dnat to ip daddr map @floating }
//		chain postrouting {
//			oifname QG snat to ip saddr map @fixed
//			oifname != QG iifname != QG ct status dnat snat to ip saddr map @fixed
//			oifname != QG iifname != QG ct status dnat snat to ADDRESS
//			oifname QG snat to ADDRESS                 # with SNAT
//		}
//	}
//
// So a packet that a program cannot finish (no hop left, too long for the next link, a host
// to be looked for, IP options) is answered or carried in the same addresses; a floating IP
// works on, more slowly, while its program is missing; and what asks for a floating IP from
// inside goes round through the router, as its answer does. The stack knows nothing of the
// connections that programs carry: it takes up TCP in the middle, and believes any window.
//
// # Decisions
//
// From outside only floating IPs can be reached, and the external leg's address by ping. A
// router without SNAT is a mere router: then inside addresses can be reached as well, if
// anybody outside has a route. A host that has a floating IP answers by it, though.
//
// Floating IPs are addresses of the external leg, as hosts (/32): the stack answers ARP for
// them there and nowhere else, and bpf_fib_lookup knows them for its own. What reaches
// the input chain for one of them has been translated by nobody and is dropped.
//
// Whoever sends from inside has to be behind the right leg (rp_filter, and the programs'
// own tables); from outside nobody may come by an address that is behind the router.
//
// An error of the router's own about a packet to a floating IP comes from the floating IP:
// the stack's NAT treats it as a part of the connection. Traceroute shows the address
// twice.
//
// When a floating IP leads elsewhere, the stack forgets the connections that it had
// translated otherwise. Those that programs carried need no forgetting.
//
// A floating IP whose fixed address is behind no inside leg waits, and so do all while there
// is no external leg. One that moves from router to router must be taken off the one before
// it is given to the other: until then both answer.
//
// There is one set of programs and maps per router, for all of its legs: which leg a packet
// came by is asked of a map. Maps of which one has lost its pin while no daemon ran are made
// anew, all of them, and floating IPs count from nothing.
package router
