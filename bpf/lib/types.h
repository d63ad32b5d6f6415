/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the maps hold: every struct that the balancer's programs and the Go side share,
 * and the enums of its fields. bpf2go turns them into Go; package maps gives them Go
 * words. What becomes of packets is named in outcome.h.
 *
 * Rules: no unions, no bit-fields, no holes (the pragma makes a hole an error),
 * fields are only appended, __be* is network order and everything else host
 * order. A change of a layout raises Layout in package maps.
 *
 * Time: a tick is 2^20 ns (about 1.05 ms) of CLOCK_MONOTONIC as BPF sees it, so
 * that a packet needs a shift and no division. Ticks wrap after 52 days; they
 * are only ever compared by difference.
 */
#pragma once

#include "addr.h"

#define MAX_MEMBERS 1024 /* members of one pool */
#define MAX_SLOTS 1984	 /* members and those that still drain, of one pool */
#define SLOT_RANGE 2048	 /* the power of two above, so that an index can be masked */
#define BLOCK 32	 /* members per block of weights, conns and schedule */

#define NAT_PORT_MIN 1024 /* first source port toward a member */
#define NAT_PORTS 64000	  /* 1024..65023; what is above belongs to the namespace's sockets */
#define NAT_WORDS (NAT_PORTS / 64)
#define NAT_SUMMARY ((NAT_WORDS + 63) / 64)
#define SNAT_ADDRESSES 16 /* source addresses of one VIP toward members, its own included */

#define HALF_OPEN_FLOWS 32768 /* handshakes in flight on one node, power of two */

#define TICKS_PER_SEC 954 /* 10^9 / 2^20, rounded up */

#define ROUTE_TICKS 512 /* how long a flow goes on by what its last route was */

#define BUSY_TICKS 64 /* the longest pause of a direction that is in use */

#define NO_LIMIT 0xffffffffU

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

/* A packet's tuple as it arrives: one direction of a flow. 16 bytes (IPv4). */
struct flow_key {
	struct addr saddr;
	struct addr daddr;
	__be16 sport;
	__be16 dport;
	__u32 proto;
};

/* flow.state. The client side's entry holds the truth about the connection; the
 * member side's holds FLOW_MEMBER_SIDE and FLOW_TIMESTAMPS only. */
enum flow_state {
	FLOW_MEMBER_SIDE = 1 << 0, /* packets of this entry come from the member */
	FLOW_TIMESTAMPS = 1 << 1,  /* the SYN had a timestamp option */
	FLOW_SYN_ACK = 1 << 2,	   /* half-open: the member has answered */
	FLOW_FIN_CLIENT = 1 << 3,
	FLOW_FIN_MEMBER = 1 << 4,
	FLOW_CLOSED = 1 << 5, /* both FINs or a true RST: no longer active */
	FLOW_DEAD = 1 << 6,   /* whoever set this deletes the pair */
	FLOW_RESET = 1 << 7,  /* the drain's deadline has passed: reset both ends */
	FLOW_COOKIE = 1 << 8, /* the client knows the member's numbers shifted */
};

/*
 * What a packet of one tuple becomes, and what such packets have shown.
 */
struct flow {
	struct addr saddr; /* after translation */
	struct addr daddr;
	__be16 sport;
	__be16 dport;
	__u16 slot;    /* the member's slot */
	__u16 snat;    /* which of vip.snat the member sees */
	__u32 state;   /* enum flow_state, changed by atomics only */
	__u32 seen;    /* tick of the last packet of this direction */
	__u32 next;    /* highest sequence number sent so far + 1 */
	__u32 ack;     /* last acknowledgment sent; half-open client side: what to expect */
	__u32 shift;   /* FLOW_TIMESTAMPS: added to the client's TSval, taken off its echo.
			 * FLOW_COOKIE: added to the member's numbers, taken off their ack */
	__u32 started; /* tick of the SYN */
	__u32 serial;  /* the member's serial, for readers */
};

/* One direction's entry in the flow table. 56 bytes (IPv4), so that key and entry fill a
 * 128-byte slab object. */
struct flow_entry {
	struct flow flow;
	/* How the last route led: good for ROUTE_TICKS, where it left by the pool's device. */
	__u32 routed; /* tick when it was asked for */
	__u16 mtu;    /* of that route; 0 = there is none yet */
	__u8 dmac[ETH_ALEN];
};

/* A handshake in flight, in the table that all pools of the node share. 20 bytes. */
struct half_open_key {
	__u32 pool; /* pool_state.pool */
	struct flow_key tuple;
};

struct half_open {
	struct flow flow;
	__u32 ring;    /* this handshake's place in half_open_ring */
	__u16 window;  /* FLOW_COOKIE: what the client has offered, */
	__u16 segment; /* and its largest segment */
	__u32 reserved;
};

/* Place in the ring of handshakes: the client side's key. */
struct half_open_place {
	struct half_open_key key;
};

/* half_open_node: the ring's cursor. */
struct half_open_node {
	__u32 cursor;
	__u32 evicted; /* handshakes that gave way to newer ones */
	__u32 lapped;  /* tick when the last of them did, 0 = never */
	__u32 reserved;
};

/* half_open_use: what one pool holds of the shared table. */
struct half_open_use {
	__u32 handshakes;
	__u32 reserved;
};

enum method {
	METHOD_ROUND_ROBIN = 0,
	METHOD_LEAST_CONNECTIONS = 1,
	METHOD_SOURCE_IP = 2,
};

enum vip_flags {
	VIP_REFUSE = 1 << 0,   /* pool admin-down: every new connection gets a RST */
	VIP_AFFINITY = 1 << 1, /* SOURCE_IP persistence */
	VIP_LISTENS = 1 << 2,  /* new connections are for a socket of the namespace */
	VIP_SOCKETS = 1 << 3,  /* such a socket may have connections, at ports like ours */
};

/* The listener and the whole of a pool's settings: one generation. */
struct vip {
	struct addr addr;
	__be16 port;
	__be16 reserved;
	__u32 proto;
	__u32 flags; /* enum vip_flags */
	__u32 method;
	__u32 half; /* which inner maps of members, schedule, weights belong to it: 0 or 1 */
	__u32 schedule_len;	/* entries in use; 0 = no usable member */
	__u32 weight_blocks;	/* blocks of weights in use */
	__u32 hash_seed;	/* of the SOURCE_IP hash */
	__u32 connection_limit; /* established flows, NO_LIMIT = none */
	__u32 flow_limit;	/* flows in the table */
	__u32 idle_sec;
	__u32 half_open_sec;
	__u32 half_open_pressure_sec;
	__u32 closing_sec;
	__u32 rest_sec;	    /* how long a port without timestamps rests after closing */
	__u32 affinity_sec; /* 0 = no timeout */
	__u32 generation;   /* counts configurations */
	__u32 snats;	    /* places of snat in use */
	__u32 snat_open;    /* bit = place whose address new connections may use */
	struct addr snat[SNAT_ADDRESSES]; /* source addresses toward members */
	struct addr broadcast;		  /* of the VIP's subnet; IPv6 has none */
	__u8 id[16];
};

enum member_flags {
	MEMBER_PRESENT = 1 << 0, /* configured and admin-up: persistent clients may use it */
};

/* A member as one generation knows it; by slot. */
struct member {
	struct addr addr;
	__be16 port;
	__u16 weight;
	__u32 flags;  /* enum member_flags */
	__u32 serial; /* never used twice within a pool */
	__u8 id[16];
};

/* SCHEDULE_BLOCK places of the schedule: by turn (ROUND_ROBIN) or by hash (SOURCE_IP). */
struct schedule_block {
	__u16 slot[BLOCK];
};

/* Effective weights of BLOCK slots; 0 = not to be chosen. */
struct weight_block {
	__u32 weight[BLOCK];
};

/* Connections (half-open ones too) of every slot, for LEAST_CONNECTIONS. */
struct conns {
	__u32 count[SLOT_RANGE];
};

/* Liveness by slot; the monitor's verdict. */
struct health {
	__u32 up;
	__u32 serial;
};

/* What one member holds of one source address's ports; only programs write it. Of the
 * first address, which every member has, it is also what the member holds at all. */
struct member_state {
	__u32 active; /* first address: established flows, not closed */
	__u32 ports_used;
	__u32 port_cursor; /* next position to try; grows without end */
	__u32 sweep_word;  /* next word that the expiry under pressure looks at */
	__u32 turn;	   /* first address: whose port comes next */
	__u32 reserved;
	__u64 full[NAT_SUMMARY]; /* bit = word of ports without a free one */
	__u64 ports[NAT_WORDS];	 /* bit = port - NAT_PORT_MIN, set = taken */
};

/* Monotonic counters of one member and CPU. */
struct member_counters {
	__u64 packets_in; /* client to member, segments */
	__u64 bytes_in;	  /* IP length of every segment */
	__u64 packets_out;
	__u64 bytes_out;
	__u64 connections; /* completed handshakes */
};

/* What members that are gone have counted. */
struct retired {
	struct member_counters total;
	__u32 serial; /* the last member added: makes adding repeatable after a crash */
	__u32 reserved;
};

/* What one pool holds; only programs write it. */
struct pool_state {
	__u64 turn;	     /* ROUND_ROBIN: turns taken */
	__u32 last_slot;     /* LEAST_CONNECTIONS: last choice + 1, where a tie starts */
	__u32 active;	     /* established flows, not closed */
	__u32 flows;	     /* flows in the table, closed ones too */
	__u32 sweep_slot;    /* whose ports the expiry under pressure looks at next, */
	__u32 sweep_snat;    /* and of which address */
	__u32 looked;	     /* tick of the last look under pressure, or when it will be paid for */
	__u32 fruitless;     /* that look found nothing, and nothing has closed since */
	__u32 answer_second; /* when `answers` were given */
	__u32 answers;
	__u32 cookies; /* tick of the last SYN that was answered with a cookie, 0 = never */
};

/* One call of the expiry: which ports to look at, and what was found there. */
struct sweep {
	__u32 slot;
	__u32 word;    /* first word of member_state.ports */
	__u32 words;   /* how many */
	__u32 flags;   /* enum sweep_flags */
	__u32 looked;  /* out: ports found taken */
	__u32 expired; /* out: flows and handshakes that were ended */
	__u32 healed;  /* out: ports taken by nobody */
	__u32 snat;    /* whose ports: place in vip.snat */
};

enum sweep_flags {
	SWEEP_PRESSURE = 1 << 0, /* the short limits: room is wanted */
	SWEEP_RESET = 1 << 1,	 /* mark live flows FLOW_RESET: the member's drain has ended */
	SWEEP_FULL = 1 << 2,  /* closed flows go at once: the alternative is to refuse somebody */
	SWEEP_END = 1 << 3,   /* everything goes: the address is no longer ours */
	SWEEP_START = 1 << 4, /* nothing is looked at: the timer starts */
};

/* Where the expiry goes on by itself while nobody calls it. */
struct expiry {
	struct bpf_timer timer;
	__u32 called; /* tick of the daemon's last call */
	__u32 slot;
	__u32 snat;
	__u32 word;
};

/* A client's member, by source address. */
struct affinity {
	__u32 slot;
	__u32 serial;
	__u32 seen; /* tick of the last new connection */
};

#pragma clang diagnostic pop

_Static_assert(sizeof(struct flow_key) == 8 + 8 * ADDR_WORDS, "flow_key");
/* state and seen are compared and swapped as one; a map value starts on 8 bytes. */
_Static_assert(__builtin_offsetof(struct flow, state) % 8 == 0, "flow.state");
_Static_assert(__builtin_offsetof(struct flow, seen) == __builtin_offsetof(struct flow, state) + 4,
	       "flow.seen");
_Static_assert(sizeof(struct flow_entry) == 48 + 8 * ADDR_WORDS, "flow_entry");
/* A datagram's opening is both, see open.h. */
_Static_assert(sizeof(struct half_open) == sizeof(struct flow_entry), "half_open");
