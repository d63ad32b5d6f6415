/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The expiry without the daemon. A timer per pool looks whether the daemon has called
 * lately; when it has not, it walks the ports itself, a few words every ten
 * milliseconds: a million flows take it 40 s and some 1.5 % of a CPU. A tick that
 * finds nothing to look at is followed by a longer pause.
 */
#pragma once

#define CLOCK_MONOTONIC 1

/* How long the daemon is silent before it counts as gone. */
const volatile __u32 silent_sec = 30;

#define NS_PER_MS 1000000ULL
#define TICK_WATCH (silent_sec * 1000 * NS_PER_MS / 6) /* the daemon is at work */
#define TICK_IDLE (1000 * NS_PER_MS)		       /* there is nothing to look at */
#define TICK_WORK (10 * NS_PER_MS)

#define TICK_WORDS 4  /* words with ports in them that one tick looks at */
#define TICK_SLOTS 64 /* members that it passes at most */

struct expiry_walk {
	struct sweep job;
	__u32 snats;
	__u32 now;
	__u32 looked; /* words */
	__u32 round;  /* the last member was passed */
};

/* The ports of one address of a member. */
static long expiry_step(__u32 step __attribute__((unused)), struct expiry_walk *walk)
{
	struct sweep *job = &walk->job;
	struct member_state *ms = ports_get(job->slot, job->snat);

	if (ms && ms->ports_used) {
		job->words = NAT_WORDS;
		walk->looked += sweep_slice(job, walk->now, TICK_WORDS - walk->looked);
		if (job->word < NAT_WORDS)
			return 1; /* enough for one tick */
	}
	job->word = 0;
	if (++job->snat < walk->snats)
		return 0;
	job->snat = 0;
	if (++job->slot < MAX_SLOTS)
		return 0;
	job->slot = 0;
	walk->round = 1;
	return 1;
}

/* Looks at the next ports and says when to look again, in ns. */
static __always_inline __u64 expiry_slice(struct expiry *e, __u32 now)
{
	struct expiry_walk walk = {
		.job = { .slot = e->slot, .snat = e->snat, .word = e->word },
		.now = now,
	};
	struct vip *vip = vip_get();

	if (!vip)
		return TICK_IDLE;
	walk.snats = vip->snats;
	bpf_loop(TICK_SLOTS, expiry_step, &walk, 0);
	e->slot = walk.job.slot;
	e->snat = walk.job.snat;
	e->word = walk.job.word;
	return walk.round && !walk.looked ? TICK_IDLE : TICK_WORK;
}

static int expiry_tick(void *map __attribute__((unused)), __u32 *key __attribute__((unused)),
		       struct expiry *e)
{
	__u32 now = bpf_ktime_get_ns() >> 20;
	__u64 pause = TICK_WATCH;

	if (now - e->called > silent_sec * TICKS_PER_SEC)
		pause = expiry_slice(e, now);
	bpf_timer_start(&e->timer, pause, 0);
	return 0;
}

static __always_inline struct expiry *expiry_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&expiry, &zero);
}

/* The daemon is at work. */
static __always_inline void expiry_called(__u32 now)
{
	struct expiry *e = expiry_get();

	if (e)
		e->called = now;
}

/* Starts the pool's timer, or hands it over to this program. Returns 0, or 1 if the
 * kernel refuses. */
static __always_inline int expiry_start(void)
{
	struct expiry *e = expiry_get();

	if (!e)
		return 1;
	bpf_timer_init(&e->timer, &expiry, CLOCK_MONOTONIC); /* -EBUSY: there is one */
	return bpf_timer_set_callback(&e->timer, expiry_tick) ||
	       bpf_timer_start(&e->timer, TICK_IDLE, 0);
}
