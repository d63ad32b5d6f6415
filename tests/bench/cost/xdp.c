//go:build ignore
/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#include "again.h"

SEC("xdp")
int again(struct xdp_md *ctx)
{
	void *packet = (void *)(long)ctx->data;

	if (packet + HEADERS > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	restore(packet);
	bpf_tail_call(ctx, &under_test, 0);
	return XDP_DROP;
}

SEC("xdp")
int macs(struct xdp_md *ctx)
{
	void *packet = (void *)(long)ctx->data;

	if (packet + ETH_HLEN > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	swap(packet);
	return XDP_TX;
}

/* Frames that have come for the host that the packets are from, on each CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

/* The other end of the wire: counts what has come, and that is all. */
SEC("xdp")
int count(struct xdp_md *ctx)
{
	void *packet = (void *)(long)ctx->data;
	__u32 zero = 0;
	__u64 *n = bpf_map_lookup_elem(&counts, &zero);

	if (n && packet + ETH_HLEN <= (void *)(long)ctx->data_end &&
	    *(__u32 *)packet == *(__u32 *)(original + ETH_ALEN) &&
	    *(__u16 *)(packet + 4) == *(__u16 *)(original + ETH_ALEN + 4))
		++*n;
	return XDP_DROP;
}
