/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Expiry. Every connection holds one port at one member, so the port bitmaps are
 * the index that a hash map lacks: they can be walked in slices, from anywhere. The
 * daemon walks them through the syscall program; a new connection walks one word
 * itself when the pool's table is nearly full.
 *
 * An entry goes only if it is still what was judged: its state and the time of its
 * last packet are compared and marked in one atomic. A packet that arrives after
 * that finds no flow; it follows a whole idle timeout.
 */
#pragma once

/* Closed flows rest this long even when room is wanted: their last ACKs are on
 * the way. */
#define PRESSURE_CLOSING_TICKS 96 /* 100 ms */

/* A flood of SYNs is over when none had to be answered by a cookie for so long. */
#define FLOOD_TICKS (60 * TICKS_PER_SEC)

/* A half without its mate is being made or being deleted; nobody takes that long. */
#define HALF_PAIR_TICKS (5 * TICKS_PER_SEC)

struct sweep_walk {
	struct vip *vip;
	struct member_state *ms;
	struct member *member;
	__u32 snat;
	__u32 slot;
	__u32 now;
	__u32 word;
	__u32 flags;
	/* Words with ports in them that may be looked at: from spent up to budget. Both
	 * start at the time, which the verifier cannot know; a count from 0 would make
	 * it walk every turn of the loop. */
	__u32 spent;
	__u32 budget;
	__u32 looked;
	__u32 expired;
	__u32 healed;
};

static __always_inline __u32 later(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0 ? a : b;
}

static __always_inline bool older(const struct sweep_walk *walk, __u32 seen, __u32 ticks)
{
	__s32 age = walk->now - seen;

	return age > 0 && (__u32)age > ticks;
}

/* Marks the entry dead if nothing has happened to it since `was` was read. state and
 * seen stand side by side. */
static __always_inline bool condemn_unchanged(struct flow *flow, __u64 was)
{
	__u64 *mark = __builtin_assume_aligned(&flow->state, sizeof(*mark));

	return !(was & FLOW_DEAD) && __sync_val_compare_and_swap(mark, was, was | FLOW_DEAD) == was;
}

/* Is the mark of an entry as old as this one's left by a race? Who is at work on an
 * entry has marked it as soon as it was older than the limit, not twice as old. */
static __always_inline bool left_behind(const struct sweep_walk *walk, __u64 was, __u32 limit)
{
	return (was & FLOW_DEAD) && older(walk, was >> 32, 2 * limit);
}

static __always_inline __u32 flow_limit_ticks(const struct sweep_walk *walk, __u32 state)
{
	if (walk->flags & SWEEP_END)
		return 0;
	if (!(state & FLOW_CLOSED))
		return walk->vip->idle_sec * TICKS_PER_SEC;
	if (walk->flags & SWEEP_FULL)
		return 0;
	if (walk->flags & SWEEP_PRESSURE)
		return PRESSURE_CLOSING_TICKS;
	if (state & FLOW_TIMESTAMPS)
		return walk->vip->closing_sec * TICKS_PER_SEC;
	return walk->vip->rest_sec * TICKS_PER_SEC;
}

static __always_inline int sweep_flow(struct sweep_walk *walk, const struct flow_key *member_key,
				      struct flow *member)
{
	struct flow_key key = {};
	__u32 seen, other, limit;
	struct flow *client;
	__u64 was;

	mate_key(&key, member, member_key->proto);
	client = bpf_map_lookup_elem(&flows, &key);
	if (!client) {
		if (older(walk, member->seen, HALF_PAIR_TICKS) &&
		    !bpf_map_delete_elem(&flows, member_key)) {
			port_clear(walk->ms, port_pos(member_key->dport));
			walk->healed++;
		}
		return 0;
	}
	was = *(volatile __u64 *)&client->state;
	other = *(volatile __u32 *)&member->seen;
	seen = later(was >> 32, other);
	limit = flow_limit_ticks(walk, was);
	if (older(walk, seen, limit)) {
		if (!left_behind(walk, was, walk->vip->idle_sec * TICKS_PER_SEC) &&
		    !condemn_unchanged(client, was))
			return 0;
		if (*(volatile __u32 *)&member->seen != other) {
			__sync_fetch_and_and(&client->state, ~FLOW_DEAD);
			return 0;
		}
		flow_remove(&key, client);
		walk->expired++;
	} else if ((walk->flags & SWEEP_RESET) && !(was & FLOW_CLOSED)) {
		__sync_fetch_and_or(&client->state, FLOW_RESET);
		__sync_fetch_and_or(&member->state, FLOW_RESET);
	}
	return 0;
}

/* After a flood handshakes have the short limit until its last ones are gone. */
static __always_inline __u32 half_open_limit_ticks(const struct sweep_walk *walk)
{
	struct pool_state *ps = pool_state_get();

	if (walk->flags & SWEEP_END)
		return 0;
	if ((walk->flags & SWEEP_PRESSURE) || (ps && cookies_lately(ps, walk->now, FLOOD_TICKS)))
		return walk->vip->half_open_pressure_sec * TICKS_PER_SEC;
	return walk->vip->half_open_sec * TICKS_PER_SEC;
}

static __always_inline int sweep_half_open(struct sweep_walk *walk,
					   const struct half_open_key *member_key,
					   struct half_open *member)
{
	struct half_open_key key = { .pool = member_key->pool };
	struct half_open *client;
	__u32 limit;
	__u64 was;

	mate_key(&key.tuple, &member->flow, member_key->tuple.proto);
	client = bpf_map_lookup_elem(&half_open, &key);
	limit = half_open_limit_ticks(walk);
	if (!client) {
		if (older(walk, member->flow.seen, HALF_PAIR_TICKS) &&
		    !bpf_map_delete_elem(&half_open, member_key)) {
			if (port_clear(walk->ms, port_pos(member_key->tuple.dport)))
				conns_add(walk->slot, -1);
			walk->healed++;
		}
		return 0;
	}
	was = *(volatile __u64 *)&client->flow.state;
	if (!older(walk, was >> 32, limit))
		return 0;
	if (!left_behind(walk, was, walk->vip->half_open_sec * TICKS_PER_SEC) &&
	    !condemn_unchanged(&client->flow, was))
		return 0;
	half_open_remove(&key, client, false);
	walk->expired++;
	return 0;
}

/* A port that is taken by nobody: another pool evicted its handshake. The entry may
 * appear between the look-up and the clearing; who inserts it looks after its bit
 * again (see handshake_open), and so do we. */
static __always_inline void sweep_orphan(struct sweep_walk *walk, const struct half_open_key *key,
					 __u32 pos)
{
	if (!port_clear(walk->ms, pos))
		return;
	conns_add(walk->slot, -1);
	walk->healed++;
	if (!bpf_map_lookup_elem(&half_open, key) && !bpf_map_lookup_elem(&flows, &key->tuple))
		return;
	if (port_set(walk->ms, pos))
		conns_add(walk->slot, 1);
}

static __always_inline int sweep_port(struct sweep_walk *walk, __u32 pos)
{
	struct half_open_key key = { .pool = pool_number };
	struct half_open *half;
	struct flow *flow;

	key.tuple.saddr = walk->member->addr;
	key.tuple.daddr = walk->vip->snat[walk->snat % SNAT_ADDRESSES];
	key.tuple.sport = walk->member->port;
	key.tuple.dport = port_at(pos);
	key.tuple.proto = walk->vip->proto;
	walk->looked++;
	flow = bpf_map_lookup_elem(&flows, &key.tuple);
	if (flow)
		return sweep_flow(walk, &key.tuple, flow);
	half = bpf_map_lookup_elem(&half_open, &key);
	if (half)
		return sweep_half_open(walk, &key, half);
	sweep_orphan(walk, &key, pos);
	return 0;
}

static long sweep_bit(__u32 bit, struct sweep_walk *walk)
{
	__u32 word = walk->word;

	if (word >= NAT_WORDS)
		return 1;
	if (walk->ms->ports[word] >> (bit & 63) & 1)
		sweep_port(walk, word * 64 + bit);
	return 0;
}

static long sweep_word(__u32 step __attribute__((unused)), struct sweep_walk *walk)
{
	__u32 word = walk->word;

	if (word >= NAT_WORDS || walk->spent == walk->budget)
		return 1;
	if (walk->ms->ports[word]) {
		bpf_loop(64, sweep_bit, walk, 0);
		walk->spent++;
	}
	walk->word = word + 1;
	return 0;
}

/* Prepares a walk over one member's ports of one address, `most` words with ports in
 * them; false = there is no such member. */
static __always_inline bool sweep_begin(struct sweep_walk *walk, const struct sweep *job, __u32 now,
					__u32 most)
{
	walk->vip = vip_get();
	if (!walk->vip)
		return false;
	walk->slot = job->slot;
	walk->snat = job->snat;
	walk->word = job->word;
	walk->flags = job->flags;
	walk->now = walk->spent = now;
	walk->budget = now + most;
	walk->member = member_get(walk->vip, job->slot);
	walk->ms = ports_get(job->slot, job->snat);
	return walk->member && walk->ms;
}

/* Looks at job->words words of one member's ports, but at no more than `most` with
 * ports in them, and says how many those were. job->word is where to go on, NAT_WORDS
 * at the end; a member that is not there has no ports. */
__noinline int sweep_slice(struct sweep *job, __u32 now, __u32 most)
{
	struct sweep_walk walk = {};
	__u32 words;

	if (!job)
		return 0;
	words = job->words;
	if (!sweep_begin(&walk, job, now, most)) {
		job->word = NAT_WORDS;
		return 0;
	}
	bpf_loop(words < NAT_WORDS ? words : NAT_WORDS, sweep_word, &walk, 0);
	job->word = walk.word;
	job->looked = walk.looked;
	job->expired = walk.expired;
	job->healed = walk.healed;
	return walk.spent - now;
}
