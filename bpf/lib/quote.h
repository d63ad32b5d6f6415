/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* An ICMP message as both families know it, and what one quotes. */
#pragma once

#define ICMP_QUOTE_MIN 8 /* bytes of the transport header, RFC 792 */

#define ICMP_HLEN sizeof(struct icmp_header)

struct icmp_header {
	__u8 type;
	__u8 code;
	__u16 sum;
	__be32 info; /* by type; the MTU stands in its low bits */
};

/* What is quoted, and where it stands in the packet. */
struct icmp_quote {
	struct flow_key key; /* of an answer to the quoted packet */
	struct icmp_header icmp;
	__u32 ip;  /* offset of the quoted IP header */
	__u32 l4;  /* offset of the quoted transport header */
	__u32 len; /* bytes there from l4 on */
	__u32 seq; /* TCP sequence number */
	__u16 ip_sum;
	__u16 l4_sum;
};

#define SUM_CHUNK 64

struct sum_walk {
	ctx_t *ctx;
	__u32 off;
	__u32 end;
	__u32 sum;
	__u32 failed;
};

/* Adds up to SUM_CHUNK bytes; a last odd byte is the first of its pair. */
static long sum_step(__u32 step __attribute__((unused)), struct sum_walk *walk)
{
	__u8 chunk[SUM_CHUNK] = {};
	__u32 len = walk->end - walk->off;

	if (walk->off >= walk->end)
		return 1;
	barrier_var(len); /* the verifier must see that it is 1..SUM_CHUNK */
	if (len == 0 || len > SUM_CHUNK)
		len = SUM_CHUNK;
	if (hook_load(walk->ctx, walk->off, chunk, len)) {
		walk->failed = 1;
		return 1;
	}
	walk->sum = bpf_csum_diff(NULL, 0, (__be32 *)chunk, SUM_CHUNK, walk->sum);
	walk->off += len;
	return 0;
}

/* Is the internet checksum over these bytes, and a pseudo header, right? */
static INLINE_IF_SMALL int sum_right(ctx_t *ctx, __u32 off, __u32 len, __u64 pseudo)
{
	struct sum_walk walk = {
		.ctx = ctx,
		.off = off,
		.end = off + len,
		.sum = csum_fold32(pseudo),
	};

	bpf_loop(1 + 65536 / SUM_CHUNK, sum_step, &walk, 0);
	return !walk.failed && csum_fold(walk.sum) == 0xffff;
}
