/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The balancer on tcx and clsact, and the expiry that the daemon calls. */
#include "base.h"
#include "hook_tc.h"
#include "pkt.h"
#include "quote.h"
#if ADDR_WORDS == 1
#include "ip4.h"
#else
#include "ip6.h"
#endif
#include "lb.h"

SEC("tc")
int tc_lb(struct __sk_buff *ctx)
{
	return lb(ctx);
}

/* Walks job->words words of one member's ports. Returns 0, or 1 if there is no
 * such member. */
SEC("syscall")
int sweep_ports(struct sweep *job)
{
	struct sweep_walk walk = { .now = bpf_ktime_get_ns() >> 20 };
	struct vip *vip = vip_get();
	__u32 words = job->words;

	if (!vip)
		return 1;
	walk.flags = job->flags;
	walk.spent = walk.now;
	walk.budget = walk.now + NAT_WORDS;
	walk.word = job->word;
	if (!sweep_begin(&walk, vip, job->slot))
		return 1;
	bpf_loop(words < NAT_WORDS ? words : NAT_WORDS, sweep_word, &walk, 0);
	job->looked = walk.looked;
	job->expired = walk.expired;
	job->healed = walk.healed;
	return 0;
}
