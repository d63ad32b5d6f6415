/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Source ports toward one member: a bitmap, taken in order over the whole range so
 * that a port is used again as late as possible.
 *
 * A set bit means "taken", but the entry that was inserted with BPF_NOEXIST is the
 * truth: a bit that nobody holds only costs a port until the expiry finds it.
 * Each set bit stands for one connection in conns[slot].
 */
#pragma once

static __always_inline void conns_add(__u32 slot, int n)
{
	struct conns *c = conns_get();

	barrier_var(slot); /* the verifier must see the check, whatever clang knows already */
	if (c && slot < MAX_SLOTS)
		__sync_fetch_and_add(&c->count[slot], n);
}

/* Sets a port's bit; says whether it was free. */
static __always_inline bool port_set(struct member_state *ms, __u32 pos)
{
	__u32 word = pos / 64;
	__u64 bit = 1ULL << (pos % 64);

	barrier_var(word);
	if (word >= NAT_WORDS || __sync_fetch_and_or(&ms->ports[word], bit) & bit)
		return false;
	__sync_fetch_and_add(&ms->ports_used, 1);
	return true;
}

/* Clears a port's bit; says whether it was taken. */
static __always_inline bool port_clear(struct member_state *ms, __u32 pos)
{
	__u32 word = pos / 64;
	__u64 bit = 1ULL << (pos % 64);

	barrier_var(word);
	if (word >= NAT_WORDS || !(__sync_fetch_and_and(&ms->ports[word], ~bit) & bit))
		return false;
	__sync_fetch_and_add(&ms->ports_used, -1);
	return true;
}

static __always_inline __u32 port_pos(__be16 port)
{
	return bpf_ntohs(port) - NAT_PORT_MIN;
}

static __always_inline __be16 port_at(__u32 pos)
{
	return bpf_htons(NAT_PORT_MIN + pos);
}

struct port_search {
	struct member_state *ms;
	__u32 pos;    /* position to look at next */
	__u32 passed; /* positions passed over */
	__u32 found;
};

/* The place of the lowest set bit, by counting the ones below it: BPF has no such
 * instruction, and branches would multiply what the verifier has to walk. */
static __always_inline __u32 lowest_bit(__u64 x)
{
	x = (x & -x) - 1;
	x -= x >> 1 & 0x5555555555555555ULL;
	x = (x & 0x3333333333333333ULL) + (x >> 2 & 0x3333333333333333ULL);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return x * 0x0101010101010101ULL >> 56 & 63;
}

/* Looks through the rest of one word. */
static long port_step(__u32 step __attribute__((unused)), struct port_search *search)
{
	__u32 word = search->pos / 64, first = search->pos % 64;
	__u64 free;
	__u32 bit;

	if (word >= NAT_WORDS)
		return 1;
	free = ~search->ms->ports[word] & (~0ULL << first);
	if (!free) {
		search->passed += 64 - first;
		search->pos = word + 1 < NAT_WORDS ? (word + 1) * 64 : 0;
		return 0;
	}
	bit = lowest_bit(free);
	search->passed += bit - first;
	search->pos = word * 64 + bit;
	if (port_set(search->ms, search->pos)) {
		search->found = 1;
		return 1;
	}
	return 0; /* another CPU was faster */
}

/*
 * Takes the next free port. The cursor counts without end (its port is the
 * remainder), so that "later" can be told from "earlier" when CPUs race: it only
 * ever moves forward. Returns the position, or NAT_PORTS when all are taken.
 */
static __always_inline __u32 port_claim(struct member_state *ms)
{
	__u32 cursor = __sync_fetch_and_add(&ms->port_cursor, 1);
	struct port_search search = { .ms = ms };
	__u32 next;

	search.pos = cursor % NAT_PORTS;
	if (port_set(ms, search.pos))
		return search.pos;
	bpf_loop(NAT_WORDS + 1, port_step, &search, 0);
	if (!search.found)
		return NAT_PORTS;
	next = cursor + search.passed + 1;
	cursor = ms->port_cursor;
	if ((__s32)(next - cursor) > 0)
		__sync_val_compare_and_swap(&ms->port_cursor, cursor, next);
	return search.pos;
}
