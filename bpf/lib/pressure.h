/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Expiry by those who want room: while a pool's table is nearly full, a new
 * connection looks after a few old ones, and while it is full it looks harder before
 * it is refused. Both are rationed, so that a flood cannot buy the search.
 */
#pragma once

#define PRESSURE_WORDS 8

/*
 * A look costs a hundred times what a SYN costs otherwise, so a flood of SYNs must
 * not buy one each: there are at most 250 a second, and ten while the table is full
 * and every flow in it alive. Nor may who closes flows of a full table buy a search each:
 * every word costs some 30 us and is paid for by time, at a tick for four of them. What
 * has not been searched for is saved up, but not for long.
 */
#define LOOK_TICKS 4
#define FRUITLESS_TICKS 96
#define WORDS_PER_TICK 4
#define SAVED_TICKS 64

/* May this packet look? Ticks of CPUs differ a little, and a packet that came in
 * before the last look is no reason for another one. */
static __always_inline bool look_due(const struct pool_state *ps, __u32 now, __u32 ticks)
{
	return now - ps->looked + 10 * TICKS_PER_SEC >= ticks + 10 * TICKS_PER_SEC;
}

/* After one member's ports of one address come those of the next address, then the
 * next member. */
static __always_inline void sweep_next(const struct vip *vip, struct pool_state *ps, __u32 slot,
				       __u32 snat)
{
	bool last = snat + 1 >= vip->snats;

	ps->sweep_snat = last ? 0 : snat + 1;
	ps->sweep_slot = last ? slot + 1 : slot;
}

/*
 * The table is nearly full: a new connection looks after a few old ones. All
 * members take turns, and all ports of a member, in the order in which they were
 * opened; words without ports cost next to nothing. CPUs that do this at the same
 * time may look at the same ports, which harms nothing. Returns the words with ports
 * that were looked at.
 */
__noinline int sweep_pressed(struct vip *vip, struct pool_state *ps, __u32 now, __u32 flags)
{
	struct sweep_walk walk = {};
	struct sweep job = { .flags = flags };

	if (!vip || !ps)
		return 0;
	job.slot = ps->sweep_slot;
	job.snat = ps->sweep_snat;
	if (!member_get(vip, job.slot)) { /* past the last member */
		job.slot = 0;
		ps->sweep_slot = 0;
	}
	if (!sweep_begin(&walk, &job, now, PRESSURE_WORDS)) {
		sweep_next(vip, ps, job.slot, job.snat);
		return 0;
	}
	walk.word = walk.ms->sweep_word;
	bpf_loop(NAT_WORDS, sweep_word, &walk, 0);
	walk.ms->sweep_word = walk.word < NAT_WORDS ? walk.word : 0;
	if (walk.word >= NAT_WORDS)
		sweep_next(vip, ps, job.slot, job.snat);
	return walk.spent - now;
}

#define FULL_SWEEPS 16

/* A plain loop: a callback would be one call too deep, and sweep_pressed is verified
 * once, however often it is called. */
static __always_inline void sweep_full(struct vip *vip, struct pool_state *ps, __u32 now)
{
	__u32 saved = now - ps->looked, words = 0;

	for (int i = 0; i < FULL_SWEEPS && ps->flows >= vip->flow_limit; i++)
		words += 1 + sweep_pressed(vip, ps, now, SWEEP_PRESSURE | SWEEP_FULL);
	ps->looked = now - (saved < SAVED_TICKS ? saved : SAVED_TICKS) + words / WORDS_PER_TICK;
	ps->fruitless = ps->flows >= vip->flow_limit;
}

/* The table is nearly full or full: makes room where there is some to be made. */
static __always_inline void sweep_for_room(struct vip *vip, struct pool_state *ps, __u32 now)
{
	if (ps->flows >= vip->flow_limit) {
		if (look_due(ps, now, ps->fruitless ? FRUITLESS_TICKS : 0))
			sweep_full(vip, ps, now);
		return;
	}
	if (!look_due(ps, now, LOOK_TICKS))
		return;
	ps->looked = now;
	sweep_pressed(vip, ps, now, SWEEP_PRESSURE);
}
