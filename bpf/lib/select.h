/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The member of a new connection: what the client had before (SOURCE_IP
 * persistence), else what the pool's method says. The choice counts in conns at
 * once; who cannot use it takes it back.
 */
#pragma once

#define NO_SLOT 0xffffffffU

static __always_inline __u32 schedule_at(const struct vip *vip, __u32 place)
{
	__u32 half = vip->half, block = place / BLOCK;
	void *inner = bpf_map_lookup_elem(&schedules, &half);
	struct schedule_block *b = inner ? bpf_map_lookup_elem(inner, &block) : NULL;

	return b ? b->slot[place % BLOCK] : NO_SLOT;
}

/* A 32-bit hash of the source address that differs from pool to pool (the
 * finalizer of MurmurHash3). */
static __always_inline __u32 hash_source(const struct vip *vip, const struct pkt *pkt)
{
	__u32 h = vip->hash_seed;

#pragma unroll
	for (int i = 0; i < ADDR_WORDS; i++) {
		h ^= pkt->key.saddr.word[i];
		h ^= h >> 16;
		h *= 0x85ebca6b;
		h ^= h >> 13;
		h *= 0xc2b2ae35;
		h ^= h >> 16;
	}
	return h;
}

struct schedule_search {
	const struct vip *vip;
	struct pool_state *ps;
	__u32 place;
	__u32 slot;
	__u32 by_turn;
	__u32 avoid;
};

/* The schedule holds only members that were up when it was built; for the moment
 * until it is built anew, those that went down are stepped over. */
static long schedule_step(__u32 step __attribute__((unused)), struct schedule_search *search)
{
	__u32 len = search->vip->schedule_len;
	__u32 slot;

	if (!len)
		return 1;
	if (search->by_turn)
		search->place = __sync_fetch_and_add(&search->ps->turn, 1) % len;
	else
		search->place = (search->place + 1) % len;
	slot = schedule_at(search->vip, search->place);
	if (slot == NO_SLOT || slot + 1 == search->avoid || !slot_up(slot))
		return 0;
	search->slot = slot;
	return 1;
}

static __always_inline __u32 choose_scheduled(struct vip *vip, struct pool_state *ps,
					      struct pkt *pkt)
{
	struct schedule_search search = {
		.vip = vip,
		.ps = ps,
		.slot = NO_SLOT,
		.by_turn = vip->method == METHOD_ROUND_ROBIN,
		.avoid = pkt->avoid,
	};
	__u32 tries = vip->schedule_len;

	if (!tries)
		return NO_SLOT;
	if (!search.by_turn)
		search.place = hash_source(vip, pkt) % vip->schedule_len + vip->schedule_len - 1;
	bpf_loop(tries < 4096 ? tries : 4096, schedule_step, &search, 0);
	if (search.slot != NO_SLOT)
		conns_add(search.slot, 1);
	return search.slot;
}

/* What changes stands in the second half of eight bytes: there the verifier does not remember
 * what was written, and need not walk the block again for every slot that may be the best so
 * far. That was a third of the time that a pool's programs take to load. */
struct least_search {
	const struct vip *vip;
	struct conns *conns;
	__u32 start; /* among equals, the first at or after this slot */
	__u32 slot;
	__u32 avoid;
	__u32 count;
	__u32 taken;
	__u32 weight;
};

/* BLOCK slots; a call per slot would cost more than the comparison. */
static long least_block(__u32 block, struct least_search *search)
{
	__u32 half = search->vip->half, first = block * BLOCK & (SLOT_RANGE - 1) & ~(BLOCK - 1);
	void *inner = bpf_map_lookup_elem(&weights, &half);
	struct weight_block *w = inner ? bpf_map_lookup_elem(inner, &block) : NULL;

	if (!w)
		return 1;
	for (__u32 i = 0; i < BLOCK; i++) {
		__u32 slot = first | i, weight = w->weight[i];
		__u32 count = search->conns->count[slot];
		__u64 ours = (__u64)count * search->weight, best = (__u64)search->count * weight;

		if (!weight || ours > best || slot + 1 == search->avoid)
			continue;
		if (ours == best && !(search->slot < search->start && slot >= search->start))
			continue;
		search->slot = slot;
		search->count = count;
		search->weight = weight;
	}
	return 0;
}

/* One scan, and the winner's count raised if it is still what was compared. */
static long least_try(__u32 try __attribute__((unused)), struct least_search *search)
{
	search->slot = NO_SLOT;
	search->count = 1;
	search->weight = 0;
	bpf_loop(search->vip->weight_blocks, least_block, search, 0);
	if (search->slot >= MAX_SLOTS)
		return 1;
	search->taken = __sync_val_compare_and_swap(&search->conns->count[search->slot],
						    search->count,
						    search->count + 1) == search->count;
	return search->taken;
}

#define LEAST_TRIES 8

static __always_inline __u32 choose_least(struct vip *vip, struct pool_state *ps, __u32 avoid)
{
	struct least_search search = { .vip = vip, .conns = conns_get(), .avoid = avoid };

	if (!search.conns || !vip->schedule_len)
		return NO_SLOT;
	search.start = ps->last_slot;
	bpf_loop(LEAST_TRIES, least_try, &search, 0);
	if (search.slot >= MAX_SLOTS)
		return NO_SLOT;
	if (!search.taken)
		conns_add(search.slot, 1);
	ps->last_slot = search.slot + 1;
	return search.slot;
}

static __always_inline __u32 choose_by_method(struct vip *vip, struct pkt *pkt)
{
	struct pool_state *ps = pool_state_get();

	if (!ps)
		return NO_SLOT;
	if (vip->method == METHOD_LEAST_CONNECTIONS)
		return choose_least(vip, ps, pkt->avoid);
	return choose_scheduled(vip, ps, pkt);
}

/* May a client that had this member before have it again? Not asked: its weight.
 * Another CPU's packet may have been here a tick after ours came in. */
static __always_inline bool affinity_holds(const struct vip *vip, const struct affinity *a,
					   __u32 now)
{
	__u32 age = now + TICKS_PER_SEC - a->seen;
	struct member *m;

	if (vip->affinity_sec && age > (vip->affinity_sec + 1) * TICKS_PER_SEC)
		return false;
	m = member_get(vip, a->slot);
	return m && m->serial == a->serial && (m->flags & MEMBER_PRESENT) && slot_up(a->slot);
}

static __always_inline void *affinity_table(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&affinities, &zero);
}

/* The member that the client had before, if it may have it again. */
static __always_inline __u32 affinity_find(struct vip *vip, struct pkt *pkt)
{
	void *table = affinity_table();
	struct affinity *a = table ? bpf_map_lookup_elem(table, &pkt->key.saddr) : NULL;
	__u32 slot;

	if (!a || !affinity_holds(vip, a, pkt->now))
		return NO_SLOT;
	a->seen = pkt->now;
	slot = *(volatile __u32 *)&a->slot; /* once: the table may give the entry away */
	conns_add(slot, 1);
	return slot;
}

/* Remembers the method's choice. Two SYNs of one client at once on two CPUs get one
 * member: the second takes what the first wrote. */
static __always_inline __u32 affinity_remember(struct vip *vip, struct pkt *pkt, __u32 slot)
{
	struct affinity fresh = { .slot = slot, .seen = pkt->now }, *a;
	struct member *m = member_get(vip, slot);
	void *table = affinity_table();
	__u32 other;

	if (!m || !table)
		return slot;
	fresh.serial = m->serial;
	if (!bpf_map_update_elem(table, &pkt->key.saddr, &fresh, BPF_NOEXIST))
		return slot;
	a = bpf_map_lookup_elem(table, &pkt->key.saddr);
	if (a && affinity_holds(vip, a, pkt->now)) {
		other = *(volatile __u32 *)&a->slot;
		conns_add(slot, -1);
		conns_add(other, 1);
		return other;
	}
	bpf_map_update_elem(table, &pkt->key.saddr, &fresh, BPF_ANY);
	return slot;
}

__noinline __u32 member_choose(struct vip *vip, struct pkt *pkt)
{
	__u32 slot = NO_SLOT;

	if (!vip || !pkt)
		return slot;
	if (vip->flags & VIP_AFFINITY)
		slot = affinity_find(vip, pkt);
	if (slot != NO_SLOT)
		return slot;
	slot = choose_by_method(vip, pkt);
	if (slot != NO_SLOT && (vip->flags & VIP_AFFINITY))
		slot = affinity_remember(vip, pkt, slot);
	return slot;
}
