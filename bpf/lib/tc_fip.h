/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Floating IPs on tcx and clsact. */
#include "kernel.h"
#include "addr.h"
#include "outcome.h"
#include "csum.h"
#include "fip_types.h"
#include "hook_tc.h"
#include "fip.h"

SEC("tc")
int tc_fip(struct __sk_buff *ctx)
{
	return fip(ctx);
}
