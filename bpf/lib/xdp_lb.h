/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The balancer's fast lane on XDP; tc_lb stands behind it. */
#include "base.h"
#include "hook_xdp.h"
#include "pkt.h"
#include "stats.h"
#include "events.h"
#include "quote.h"
#if ADDR_WORDS == 1
#include "ip4.h"
#else
#include "ip6.h"
#endif
#include "lb.h"

SEC("xdp")
int xdp_lb(struct xdp_md *ctx)
{
	return lb(ctx);
}

/* For the other end of a veth pair, which delivers XDP_TX frames only if it runs a
 * program itself. */
SEC("xdp")
int xdp_pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}
