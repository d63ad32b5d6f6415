/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counting what decides nothing. */
#pragma once

/* What happened besides, by enum event. Written by programs, monotonic. With the pool. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, EVENT_MAX);
	__type(key, __u32); /* enum event */
	__type(value, __u64);
} events SEC(".maps");

static __always_inline void count_event(enum event e)
{
	__u64 *n = bpf_map_lookup_elem(&events, &e);

	if (n)
		(*n)++;
}
