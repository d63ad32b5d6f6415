/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Counting what became of packets: one verdict or one drop reason each. */
#pragma once

static __always_inline void count_verdict(enum verdict v)
{
	__u64 *n = bpf_map_lookup_elem(&verdicts, &v);

	if (n)
		(*n)++;
}

static __always_inline void count_event(enum event e)
{
	__u64 *n = bpf_map_lookup_elem(&events, &e);

	if (n)
		(*n)++;
}

static __always_inline void count_drop(enum drop_reason reason)
{
	__u64 *n = bpf_map_lookup_elem(&drops, &reason);

	if (n)
		(*n)++;
}
