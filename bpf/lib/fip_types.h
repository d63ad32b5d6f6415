/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a router's programs and the Go side share, besides addr.h and outcome.h. The
 * rules are those of types.h.
 */
#pragma once

#define FLOATING_MAX 65536 /* floating IPs of one router */
#define LEGS_MAX 1024

#pragma clang diagnostic push
#pragma clang diagnostic error "-Wpadded"

enum leg_role {
	LEG_EXTERNAL = 1,
	LEG_INSIDE = 2,
};

/* A router's device, by its index. */
struct leg {
	__u32 role;	/* enum leg_role */
	__u32 external; /* index of the external leg, 0 = there is none */
	__u32 mtu;
	struct addr addr; /* the leg's own */
	__u8 mac[ETH_ALEN];
	__u8 pad[2];
};

/* Whom a floating IP stands for. */
struct floating {
	struct addr fixed;
	__u32 leg; /* index of the inside leg that leads there */
	__u8 id[16];
};

/* The way back, by the inside address. */
struct fixed {
	struct addr floating;
	__u32 leg;
};

/* A network that a leg leads to. */
struct network {
	__u32 bits;
	struct addr addr;
};

/* Monotonic counters of one floating IP and CPU; in is toward its host. */
struct floating_counters {
	__u64 packets_in; /* segments */
	__u64 bytes_in;	  /* IP length of every segment */
	__u64 packets_out;
	__u64 bytes_out;
};

#pragma clang diagnostic pop

/* See export.h. */
const enum leg_role *export_leg_role;
