/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Incremental internet checksums (RFC 1624, equation 3). A diff is the one's
 * complement sum of what was added and the complement of what was taken away,
 * not yet folded. Nothing here knows about flows.
 */
#pragma once

/* Folds to 16 bits; twice may carry, four times never does for 64 bits. */
static __always_inline __u16 csum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static __always_inline __u32 csum_fold32(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	return sum;
}

/* The diff of a 32-bit word at an even offset. */
static __always_inline __u64 csum_word(__be32 from, __be32 to)
{
	return (__u64)(__u32)~from + to;
}

/* The diff of an address. */
static __always_inline __u64 csum_addr(const struct addr *from, const struct addr *to)
{
	__u64 diff = 0;

#pragma unroll
	for (int i = 0; i < ADDR_WORDS; i++)
		diff += csum_word(from->word[i], to->word[i]);
	return diff;
}

/* The same diff for a word at an odd offset: its bytes stand in the other half of
 * the 16-bit words that are summed. */
static __always_inline __u64 csum_odd(__u64 diff, __u32 off)
{
	__u32 folded = csum_fold32(diff);

	return off & 1 ? (folded >> 8 | folded << 24) : folded;
}

static __always_inline bool addr_equal(const struct addr *a, const struct addr *b)
{
#pragma unroll
	for (int i = 0; i < ADDR_WORDS; i++)
		if (a->word[i] != b->word[i])
			return false;
	return true;
}

/* The sum of the pseudo header that transport checksums cover. */
static __always_inline __u64 csum_pseudo(const struct addr *saddr, const struct addr *daddr,
					 __u8 proto, __u16 len)
{
	__u64 sum = bpf_htons(proto) + (__u64)bpf_htons(len);

#pragma unroll
	for (int i = 0; i < ADDR_WORDS; i++)
		sum += (__u64)saddr->word[i] + daddr->word[i];
	return sum;
}
