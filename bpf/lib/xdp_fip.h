/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Floating IPs' fast lane on XDP; tc_fip stands behind it. */
#include "kernel.h"
#include "addr.h"
#include "outcome.h"
#include "csum.h"
#include "fip_types.h"
#include "hook_xdp.h"
#include "fip.h"

SEC("xdp")
int xdp_fip(struct xdp_md *ctx)
{
	return fip(ctx);
}

/* For the other ends of the legs' veth pairs, which deliver what was sent by XDP only if
 * they run a program themselves. */
SEC("xdp")
int xdp_pass(struct xdp_md *ctx __attribute__((unused)))
{
	return XDP_PASS;
}
