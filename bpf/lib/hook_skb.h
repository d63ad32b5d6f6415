/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the hooks that see an skb have in common: reading and rewriting it.
 *
 * An skb may be a GSO super-packet, may hold only a few linear bytes, and its
 * transport checksum may be partial (the sender left it to the device). The
 * bpf_l4_csum_replace helper knows about the latter, so sums are only changed
 * through it.
 */
#pragma once

typedef struct __sk_buff ctx_t;

static __always_inline void *hook_data(ctx_t *ctx)
{
	return (void *)(long)ctx->data;
}

static __always_inline void *hook_end(ctx_t *ctx)
{
	return (void *)(long)ctx->data_end;
}

/* Makes the first len bytes readable, or as many as there are. */
static __always_inline void hook_pull(ctx_t *ctx, __u32 len)
{
	if (hook_data(ctx) + len > hook_end(ctx))
		bpf_skb_pull_data(ctx, len < ctx->len ? len : ctx->len);
}

static __always_inline __u32 hook_len(ctx_t *ctx)
{
	return ctx->len;
}

static __always_inline __u32 hook_ifindex(ctx_t *ctx)
{
	return ctx->ifindex;
}

/* Is the frame for this host and untagged (or tagged with a mere priority)? The
 * kernel has taken an 802.1Q tag off the data by now. */
static __always_inline bool hook_tagged(ctx_t *ctx)
{
	return ctx->vlan_present && (ctx->vlan_tci & 0x0fff);
}

/* Segments that this packet is on the wire. */
static __always_inline __u32 hook_segments(ctx_t *ctx)
{
	return ctx->gso_segs ? ctx->gso_segs : 1;
}

/* Payload bytes of one segment of a super-packet; 0 = it is none. */
static __always_inline __u32 hook_segment_size(ctx_t *ctx)
{
	return ctx->gso_size;
}

static __always_inline int hook_load(ctx_t *ctx, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes(ctx, off, to, len);
}

/*
 * Adds diffs to the transport checksum at off: what addresses changed (part of the
 * pseudo header) and what the segment itself changed. A UDP sum that comes out as 0
 * is sent as all ones (RFC 768). Invalidates packet pointers.
 *
 * Where the device has summed the whole packet, the helper takes the pseudo header's
 * diff off that sum, because an IPv4 header's own checksum would make up for it. IPv6
 * has none: it is added again.
 */
static __always_inline int hook_csum(ctx_t *ctx, __u32 off, __u32 addr_diff, __u32 diff, bool udp)
{
	__u64 mangled = udp ? BPF_F_MARK_MANGLED_0 : 0;
	int rc = bpf_l4_csum_replace(ctx, off, 0, addr_diff, BPF_F_PSEUDO_HDR | mangled);

	if (ADDR_WORDS > 1)
		bpf_csum_update(ctx, addr_diff);
	return rc ? rc : bpf_l4_csum_replace(ctx, off, 0, diff, mangled);
}

/*
 * One hop less. Where the device has summed the whole packet that is one less in its
 * sum, too; an IPv4 header makes up for it by its own. Before packet pointers are read.
 */
static __always_inline void hook_hop(ctx_t *ctx)
{
	if (ADDR_WORDS > 1)
		bpf_csum_update(ctx, (__u16)~bpf_htons(1));
}

static __always_inline int hook_store(ctx_t *ctx, __u32 off, const void *from, __u32 len)
{
	return bpf_skb_store_bytes(ctx, off, from, len, 0);
}

/* Later programs of the hook and the stack see the packet. */
static __always_inline int hook_pass(void)
{
	return TC_ACT_UNSPEC;
}

static __always_inline int hook_drop(void)
{
	return TC_ACT_SHOT;
}
