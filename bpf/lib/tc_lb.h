/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The balancer on tcx and clsact, and the expiry: the daemon's call, and the timer. */
#include "base.h"
#include "hook_tc.h"
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
#include "expiry.h"

SEC("tc")
int tc_lb(struct __sk_buff *ctx)
{
	return lb(ctx);
}

/* Walks job->words words of one member's ports. Returns 0, or 1 if there is no such
 * member. With SWEEP_START it starts the timer instead: two programs would each bring
 * all that the expiry consists of. */
SEC("syscall")
int sweep_ports(struct sweep *job)
{
	struct sweep slice = *job;
	__u32 now = bpf_ktime_get_ns() >> 20;

	if (slice.flags & SWEEP_START)
		return expiry_start();
	expiry_called(now);
	if (!member_state_get(slice.slot))
		return 1;
	sweep_slice(&slice, now, NAT_WORDS);
	job->looked = slice.looked;
	job->expired = slice.expired;
	job->healed = slice.healed;
	return 0;
}
