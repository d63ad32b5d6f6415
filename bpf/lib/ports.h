/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Source ports toward one member: a bitmap per source address, taken in order over
 * the whole range so that a port is used again as late as possible.
 *
 * A set bit means "taken", but the entry that was inserted with BPF_NOEXIST is the
 * truth: a bit that nobody holds only costs a port until the expiry finds it.
 * Each set bit stands for one connection in conns[slot].
 *
 * Above the bitmap stands a second one, of words without a free port, so that a free
 * one is found in a few steps however full the range is.
 */
#pragma once

static __always_inline void conns_add(__u32 slot, int n)
{
	struct conns *c = conns_get();

	barrier_var(slot); /* the verifier must see the check, whatever clang knows already */
	if (c && slot < SLOT_RANGE)
		__sync_fetch_and_add(&c->count[slot], n);
}

/* Notes that a word has no free port left. A port of it may be given back before that
 * is written, so it is looked at again afterwards; who gives one back looks here
 * afterwards, so one of the two sees the other. */
static __always_inline void word_filled(struct member_state *ms, __u32 word)
{
	__u64 bit = 1ULL << (word % 64);
	__u32 group = word / 64;

	barrier_var(group);
	if (word >= NAT_WORDS || group >= NAT_SUMMARY)
		return;
	__sync_fetch_and_or(&ms->full[group], bit);
	if (~*(volatile __u64 *)&ms->ports[word])
		__sync_fetch_and_and(&ms->full[group], ~bit);
}

/* Sets a port's bit; says whether it was free. */
static __always_inline bool port_set(struct member_state *ms, __u32 pos)
{
	__u32 word = pos / 64;
	__u64 bit = 1ULL << (pos % 64), before;

	barrier_var(word);
	if (word >= NAT_WORDS)
		return false;
	before = __sync_fetch_and_or(&ms->ports[word], bit);
	if (before & bit)
		return false;
	__sync_fetch_and_add(&ms->ports_used, 1);
	if (!~(before | bit))
		word_filled(ms, word);
	return true;
}

/* Clears a port's bit; says whether it was taken. */
static __always_inline bool port_clear(struct member_state *ms, __u32 pos)
{
	__u32 word = pos / 64, group = pos / 4096;
	__u64 bit = 1ULL << (pos % 64), full = 1ULL << (word % 64);

	barrier_var(word);
	if (word >= NAT_WORDS || !(__sync_fetch_and_and(&ms->ports[word], ~bit) & bit))
		return false;
	__sync_fetch_and_add(&ms->ports_used, -1);
	barrier_var(group);
	if (group < NAT_SUMMARY && (*(volatile __u64 *)&ms->full[group] & full))
		__sync_fetch_and_and(&ms->full[group], ~full);
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

/* Position of the lowest set bit: the ones below it, counted. x is not 0. */
static __always_inline __u32 lowest_bit(__u64 x)
{
	x = (x & -x) - 1;
	x -= x >> 1 & 0x5555555555555555ULL;
	x = (x & 0x3333333333333333ULL) + (x >> 2 & 0x3333333333333333ULL);
	x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return x * 0x0101010101010101ULL >> 56 & 63;
}

/* The words of one group that exist. */
static __always_inline __u64 group_words(__u32 group)
{
	return group < NAT_WORDS / 64 ? ~0ULL : (1ULL << NAT_WORDS % 64) - 1;
}

/* The first word at or after `word` that has a free port, going round; NAT_WORDS if
 * there is none. */
__noinline __u32 word_find(const struct member_state *ms, __u32 word)
{
	__u32 group = word / 64 % NAT_SUMMARY;
	__u64 from = ~0ULL << (word % 64), open;

	if (!ms)
		return NAT_WORDS;

	for (int i = 0; i <= NAT_SUMMARY; i++) {
		open = ~ms->full[group] & group_words(group) & from;
		if (open)
			return group * 64 + lowest_bit(open);
		from = ~0ULL;
		group = group + 1 < NAT_SUMMARY ? group + 1 : 0;
	}
	return NAT_WORDS;
}

/* A free port at or after pos, going round; NAT_PORTS if none is known. */
static __always_inline __u32 port_find(const struct member_state *ms, __u32 pos)
{
	__u32 word = pos / 64;
	__u64 open = 0;

	barrier_var(word);
	if (word < NAT_WORDS)
		open = ~ms->ports[word] & (~0ULL << (pos % 64));
	if (!open) {
		word = word_find(ms, word + 1 < NAT_WORDS ? word + 1 : 0);
		barrier_var(word);
		if (word >= NAT_WORDS)
			return NAT_PORTS;
		open = ~ms->ports[word];
	}
	/* Filled meanwhile: the caller fails there, and goes on from there. */
	return word * 64 + (open ? lowest_bit(open) : 0);
}

#define FIND_TRIES 16 /* against CPUs that are faster */

/*
 * Takes the next free port. The cursor counts without end (its port is the
 * remainder), so that "later" can be told from "earlier" when CPUs race: it only
 * ever moves forward. Returns the position, or NAT_PORTS when all are taken.
 */
__noinline __u32 port_claim(struct member_state *ms)
{
	__u32 cursor, start, pos, next;
	int i;

	if (!ms)
		return NAT_PORTS;
	cursor = __sync_fetch_and_add(&ms->port_cursor, 1);
	start = pos = cursor % NAT_PORTS;
	if (port_set(ms, pos))
		return pos;
	for (i = 0; i < FIND_TRIES; i++) {
		pos = port_find(ms, pos);
		if (pos >= NAT_PORTS)
			return NAT_PORTS;
		if (port_set(ms, pos))
			break;
	}
	if (i == FIND_TRIES)
		return NAT_PORTS;
	next = cursor + (pos >= start ? pos - start : pos + NAT_PORTS - start) + 1;
	cursor = ms->port_cursor;
	if ((__s32)(next - cursor) > 0)
		__sync_val_compare_and_swap(&ms->port_cursor, cursor, next);
	return pos;
}
