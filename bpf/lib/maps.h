/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The balancer's maps, but those that only count packets (stats.h, events.h). Each says
 * who writes it, who reads it, what happens when it is full and how long it lives.
 * "programs" are the ones in this folder, "the loader" is
 * package loader through package maps. Everything is pinned, so everything
 * survives the daemon; "with the pool" ends when the pool is undeployed.
 *
 * One generation of the configuration is the inner map in vips[0] with the inner
 * maps at index vip.half of members, schedules and weights. The loader fills the
 * other half first and swaps vips[0] last; the kernel waits until no program
 * uses what was replaced.
 */
#pragma once

/* Established and closing flows, two entries each. Written and read by programs.
 * Full: the handshake is refused (DROP_FLOWS_FULL), nothing is evicted. With the
 * pool. Allocated on demand, counted against the node's budget at its limit. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * 16384);
	__type(key, struct flow_key);
	__type(value, struct flow_entry);
} flows SEC(".maps");

/* Handshakes in flight of all pools, two entries each, so that a flood of SYNs
 * never reaches the flows. Written and read by programs. Full: the ring below
 * makes the oldest handshake of the greediest pool give way. With the node. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * HALF_OPEN_FLOWS);
	__type(key, struct half_open_key);
	__type(value, struct half_open);
} half_open SEC(".maps");

/* The handshakes in order of arrival. Written and read by programs; a place whose
 * handshake is gone is free. With the node. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, HALF_OPEN_FLOWS);
	__type(key, __u32);
	__type(value, struct half_open_place);
} half_open_ring SEC(".maps");

/* The ring's cursor. Written by programs, read by the loader. With the node. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct half_open_node);
} half_open_node SEC(".maps");

/* Handshakes in flight by pool number. The loader makes and removes entries,
 * programs count in them. Full: the pool is not deployed. With the node. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, struct half_open_use);
} half_open_use SEC(".maps");

/* The listener and the pool's settings; [0] is swapped whole by the loader, read
 * by programs. With the pool. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_ARRAY);
			__uint(max_entries, 1);
			__type(key, __u32);
			__type(value, struct vip);
		});
} vips SEC(".maps");

/* Members by slot, draining ones too. Written by the loader, read by programs.
 * With the pool. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_ARRAY);
			__uint(map_flags, BPF_F_INNER_MAP);
			__uint(max_entries, 1);
			__type(key, __u32);
			__type(value, struct member);
		});
} members SEC(".maps");

/* Whose turn it is (ROUND_ROBIN), or which member a hash falls to (SOURCE_IP).
 * Written by the loader, read by programs. With the pool. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_ARRAY);
			__uint(map_flags, BPF_F_INNER_MAP);
			__uint(max_entries, 1);
			__type(key, __u32);
			__type(value, struct schedule_block);
		});
} schedules SEC(".maps");

/* Effective weights (LEAST_CONNECTIONS). Written by the loader, also in place when
 * a member goes down, read by programs. With the pool. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_ARRAY);
			__uint(map_flags, BPF_F_INNER_MAP);
			__uint(max_entries, 1);
			__type(key, __u32);
			__type(value, struct weight_block);
		});
} weights SEC(".maps");

/* Connections by slot. Written and read by programs. With the pool. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct conns);
} conns SEC(".maps");

/* The monitors' verdicts by slot. Written by the loader, read by programs. With
 * the pool, so that a restarted daemon starts from what was known. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__type(value, struct health);
} health SEC(".maps");

/* NAT ports and levels, at place of the address * MAX_SLOTS + slot. The loader makes
 * the inner maps when a member gets its slot and removes them with the slot; programs
 * write in them. A pool with more addresses has a larger outer map. With the pool. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_ARRAY);
			__uint(max_entries, 1);
			__type(key, __u32);
			__type(value, struct member_state);
		});
} member_states SEC(".maps");

/* Monotonic counters by slot, made and removed like member_states. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, MAX_SLOTS);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
			__uint(max_entries, 1);
			__type(key, __u32);
			__type(value, struct member_counters);
		});
} counters SEC(".maps");

/* What removed members counted. Written and read by the loader only. With the pool. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct retired);
} retired SEC(".maps");

/* Levels and cursors of the pool. Written by programs. With the pool. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct pool_state);
} pool_state SEC(".maps");

/* Source address to member; [0] is there only while SOURCE_IP persistence is on
 * (made by the loader). Written and read by programs. Full: the client unseen for
 * longest is forgotten. With the persistence. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(
		values, struct {
			__uint(type, BPF_MAP_TYPE_LRU_HASH);
			__uint(max_entries, 10240);
			__type(key, struct addr);
			__type(value, struct affinity);
		});
} affinities SEC(".maps");

/* The timer that looks after the flows when the daemon is silent. Started by the
 * loader, written by programs. With the pool, for the timer holds the program. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct expiry);
} expiry SEC(".maps");

/* The number under which this pool keeps its handshakes in the node's table; set
 * by the loader before the programs are loaded. */
const volatile __u32 pool_number;

/* Handshakes that a pool may have in flight before clients must show that they exist. */
const volatile __u32 calm_handshakes = 8192;
