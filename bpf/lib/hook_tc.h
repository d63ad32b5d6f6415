/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the balancer needs of its hook, for tcx and clsact on the pool's own device;
 * hook_xdp.h is the same for XDP, hook_tap.h for the device at the other end.
 */
#pragma once

#include "hook_skb.h"

/* This hook can finish every packet; it need not leave any to another one. */
#define HOOK_FINAL 1

static __always_inline bool hook_other_host(ctx_t *ctx)
{
	return ctx->pkt_type == PACKET_OTHERHOST;
}

static __always_inline bool hook_broadcast(ctx_t *ctx)
{
	return ctx->pkt_type == PACKET_BROADCAST || ctx->pkt_type == PACKET_MULTICAST;
}

/* Sends the packet out of a device whose frame header is complete. */
static __always_inline int hook_send(ctx_t *ctx __attribute__((unused)), __u32 ifindex)
{
	return bpf_redirect(ifindex, 0);
}

/* Sends the packet to a neighbour that the kernel must resolve first. */
static __always_inline int hook_send_unresolved(__u32 ifindex)
{
	return bpf_redirect_neigh(ifindex, NULL, 0, 0);
}
