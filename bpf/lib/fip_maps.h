/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * All maps of a router's programs, in the manner of maps.h. The loader is package
 * loader/router through package maps. All are pinned and end with the router.
 */
#pragma once

/* The router's devices by index. Written by the loader, read by programs. A device that
 * is not there is the stack's alone. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, LEGS_MAX);
	__type(key, __u32);
	__type(value, struct leg);
} legs SEC(".maps");

/* Floating IPs by their address. Written by the loader, read by programs. Full: the
 * router is not applied. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FLOATING_MAX);
	__type(key, struct addr);
	__type(value, struct floating);
} floating_ips SEC(".maps");

/* The same by inside address. Written by the loader, read by programs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FLOATING_MAX);
	__type(key, struct addr);
	__type(value, struct fixed);
} fixed_ips SEC(".maps");

/* Which leg leads to a network, the next one or one behind it; the longest prefix counts.
 * Written by the loader, read by programs. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4 * LEGS_MAX);
	__type(key, struct network);
	__type(value, __u32); /* the leg's index */
} networks SEC(".maps");

/* Counters by floating address. The loader makes and removes entries, programs count in
 * them. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FLOATING_MAX);
	__type(key, struct addr);
	__type(value, struct floating_counters);
} floating_counts SEC(".maps");
