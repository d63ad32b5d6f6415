/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the balancer needs of its hook, for the outside device's egress: a packet that the
 * bridge sends to the pool, before it has crossed the veth pair. It is turned around
 * there, into the bridge, as if the pool had sent it.
 *
 * It is a fast lane only, as XDP is (see hook_xdp.h): what it does not finish it passes
 * on, untouched and uncounted.
 */
#pragma once

#include "hook_skb.h"

#define HOOK_FINAL 0

/* The inside device's address, set by the loader before the program is loaded. */
const volatile __u8 device_mac[ETH_ALEN];

/* A bridge floods its ports with what is for hosts that it does not know. */
static __always_inline bool hook_other_host(ctx_t *ctx)
{
	__u8 *dest = hook_data(ctx);

	if ((void *)(dest + ETH_ALEN) > hook_end(ctx))
		return true;
#pragma unroll
	for (int i = 0; i < ETH_ALEN; i++)
		if (dest[i] != device_mac[i])
			return true;
	return false;
}

static __always_inline bool hook_broadcast(ctx_t *ctx __attribute__((unused)))
{
	return false; /* that is for another host than this one alone */
}

/* Into the bridge, by the port that it came out of. */
static __always_inline int hook_send(ctx_t *ctx, __u32 ifindex __attribute__((unused)))
{
	return bpf_redirect(ctx->ifindex, BPF_F_INGRESS);
}
