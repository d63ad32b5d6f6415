/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What may become of a packet, in numbers that programs count under and the Go side gives
 * names to.
 */
#pragma once

/* What is worth a count, but does not decide what becomes of a packet. */
enum event {
	EVENT_ARP_CONFLICT = 0, /* another host claims an address of ours */
	EVENT_NAT_PRESSURE =
		1, /* a new connection toward a member with more than half its ports taken */
	EVENT_COOKIE_ACCEPTED = 2, /* a client came back with the number it was sent */
	EVENT_OUTSIDE = 3,	   /* turned around before it came into the pool's namespace */
	EVENT_MAX = 4,
};

/* What became of a packet that did not end here. */
enum verdict {
	VERDICT_FORWARDED = 0,
	VERDICT_PASSED = 1,   /* left to the namespace's stack, untouched */
	VERDICT_ANSWERED = 2, /* dropped for a reason, and answered */
	VERDICT_MAX = 3,
};

/*
 * Why a packet ended here. Values are never reused; names in lower case without
 * the prefix are what the outside sees.
 */
enum drop_reason {
	DROP_NONE = 0, /* not a reason: go on */
	DROP_TRUNC_L3 = 1,
	DROP_TRUNC_L4 = 2,
	DROP_L2_BCAST = 3,
	DROP_IP_VER = 4,
	DROP_IP_IHL = 5,
	DROP_IP_LEN = 6,
	DROP_FRAG = 7,
	DROP_MARTIAN = 8,
	DROP_SPOOF_SELF = 9,
	DROP_PORT0 = 10,
	DROP_TTL = 11,
	DROP_TCP_DOFF = 12,
	DROP_TCP_FLAGS = 13,
	DROP_NAT_NOMAP = 14,
	DROP_NO_ENTRY = 15,
	DROP_BAD_ACK = 16, /* ACK of a handshake that the member never offered */
	DROP_CONN_LIMIT = 17,
	DROP_NO_MEMBER = 18,
	DROP_NAT_FULL = 19,
	DROP_FLOWS_FULL = 20,
	DROP_HALF_OPEN_FULL = 21,
	DROP_NO_ROUTE = 22,
	DROP_TOO_BIG = 23,
	DROP_DRAINED = 24,  /* flow of a member whose drain has ended */
	DROP_INTERNAL = 25, /* a map that must be there is not: see the daemon's log */
	DROP_ICMP_TYPE = 26,
	DROP_ICMP_INNER = 27,
	DROP_ICMP_MTU = 28,
	DROP_ICMP_NOMAP = 29,
	DROP_ICMP_CSUM = 30,
	DROP_ICMP_SEQ = 31,
	DROP_UDP_LEN = 32,
	DROP_V6_EXT = 33,
	DROP_SYN_COOKIE = 34, /* answered with a number to come back with */
	DROP_IP_OPTS = 35, /* balanced packets have no use for them, source routes least of all */
	DROP_PORT_TAKEN = 36, /* by a socket of the namespace: the next SYN gets another port */
	DROP_MAX = 37,
};
