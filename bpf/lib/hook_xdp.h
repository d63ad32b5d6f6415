/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the balancer needs of its hook, for XDP; see hook_tc.h.
 *
 * XDP is the fast lane only: the loader always attaches the tc program behind it.
 * A packet that XDP cannot finish (its neighbour must be resolved, it must be
 * answered) is passed on untouched and uncounted, and the tc program treats it
 * from the start.
 *
 * Checksums must be complete here: the loader switches tx checksum offload off on
 * the other end of a veth pair.
 */
#pragma once

typedef struct xdp_md ctx_t;

#define HOOK_FINAL 0

static __always_inline void *hook_data(ctx_t *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *hook_end(ctx_t *ctx)
{
	return (void *)(long)ctx->data_end;
}

static __always_inline void hook_pull(ctx_t *ctx __attribute__((unused)),
				      __u32 len __attribute__((unused)))
{
}

static __always_inline __u32 hook_len(ctx_t *ctx)
{
	return ctx->data_end - ctx->data;
}

static __always_inline __u32 hook_ifindex(ctx_t *ctx)
{
	return ctx->ingress_ifindex;
}

/* A tag is still in the data, where the ethertype says so. */
static __always_inline bool hook_tagged(ctx_t *ctx __attribute__((unused)))
{
	return false;
}

/* The device's own address, set by the loader before the program is loaded: a
 * bridge may flood us with frames that are for somebody else. */
const volatile __u8 device_mac[ETH_ALEN];

static __always_inline bool hook_other_host(ctx_t *ctx)
{
	__u8 *dest = hook_data(ctx);

	if ((void *)(dest + ETH_ALEN) > hook_end(ctx) || (*dest & 1))
		return false;
#pragma unroll
	for (int i = 0; i < ETH_ALEN; i++)
		if (dest[i] != device_mac[i])
			return true;
	return false;
}

static __always_inline bool hook_broadcast(ctx_t *ctx)
{
	void *data = hook_data(ctx);

	return data + 1 <= hook_end(ctx) && (*(__u8 *)data & 1);
}

static __always_inline __u32 hook_segments(ctx_t *ctx __attribute__((unused)))
{
	return 1;
}

static __always_inline __u32 hook_segment_size(ctx_t *ctx __attribute__((unused)))
{
	return 0;
}

static __always_inline int hook_load(ctx_t *ctx, __u32 off, void *to, __u32 len)
{
	return bpf_xdp_load_bytes(ctx, off, to, len);
}

static __always_inline int hook_csum(ctx_t *ctx, __u32 off, __u32 addr_diff, __u32 diff, bool udp)
{
	__u16 *sum = hook_data(ctx) + (off & 0x3ff);

	if ((void *)(sum + 1) > hook_end(ctx))
		return -1;
	*sum = ~csum_fold((__u64)(__u16) ~*sum + addr_diff + diff);
	if (udp && !*sum)
		*sum = 0xffff;
	return 0;
}

static __always_inline void hook_hop(ctx_t *ctx __attribute__((unused)))
{
}

static __always_inline int hook_store(ctx_t *ctx, __u32 off, const void *from, __u32 len)
{
	return bpf_xdp_store_bytes(ctx, off, (void *)from, len);
}

static __always_inline int hook_send(ctx_t *ctx, __u32 ifindex)
{
	return ifindex == ctx->ingress_ifindex ? XDP_TX : bpf_redirect(ifindex, 0);
}

static __always_inline int hook_pass(void)
{
	return XDP_PASS;
}

static __always_inline int hook_drop(void)
{
	return XDP_DROP;
}
