/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counting what became of packets: one verdict or one drop reason each. The tables live as
 * long as the pool, or the router, that has them. */
#pragma once

/* Packets by what became of them. Written by programs, monotonic. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICT_MAX);
	__type(key, __u32); /* enum verdict */
	__type(value, __u64);
} verdicts SEC(".maps");

/* Packets that ended here, by reason. Written by programs, monotonic. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DROP_MAX);
	__type(key, __u32); /* enum drop_reason */
	__type(value, __u64);
} drops SEC(".maps");

static __always_inline void count_verdict(enum verdict v)
{
	__u64 *n = bpf_map_lookup_elem(&verdicts, &v);

	if (n)
		(*n)++;
}

static __always_inline void count_drop(enum drop_reason reason)
{
	__u64 *n = bpf_map_lookup_elem(&drops, &reason);

	if (n)
		(*n)++;
}
