/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP errors quote the packet that they are about, as whoever sends them saw it. So the
 * quote's address is turned like the packet's own, the other way round: what came from
 * outside quotes the floating IP as a source, what comes from inside quotes the fixed
 * address as a destination (RFC 5508, section 4). Every sum changes by exactly what
 * changed; one that was wrong stays wrong.
 */
#pragma once

enum icmp_number {
	ICMP_N_UNREACHABLE = 3,
	ICMP_N_SOURCE_QUENCH = 4,
	ICMP_N_REDIRECT = 5,
	ICMP_N_TIME_EXCEEDED = 11,
	ICMP_N_PARAMETER = 12,
};

struct icmp_header {
	__u8 type;
	__u8 code;
	__u16 sum;
	__be32 info;
};

static __always_inline bool icmp_error(__u8 type)
{
	return type == ICMP_N_UNREACHABLE || type == ICMP_N_TIME_EXCEEDED ||
	       type == ICMP_N_PARAMETER;
}

/* Where the quoted transport's sum stands, if there is one and it is quoted. */
static __always_inline void fip_quote_sum(ctx_t *ctx, const struct fip_pkt *pkt,
					  const struct iphdr *ip, struct fip_quote *q)
{
	__u32 at = fip_sum_at(ip->protocol);
	__u32 off = q->ip + ip->ihl * 4 + at;

	if (!at || (ip->frag_off & bpf_htons(IP_OFFSET)) ||
	    off + sizeof(q->l4_sum) > L3_OFF + pkt->ip_len ||
	    hook_load(ctx, off, &q->l4_sum, sizeof(q->l4_sum)))
		return;
	if (ip->protocol != IPPROTO_UDP || q->l4_sum)
		q->sum_off = off;
}

/* Reads the quote of an error; of what is none, nothing. 0 = go on, and nothing but
 * addresses of the packet itself change unless quote.ip is set. */
static __always_inline int fip_quote(ctx_t *ctx, struct fip_pkt *pkt)
{
	struct fip_quote *q = &pkt->quote;
	struct icmp_header icmp;
	struct iphdr ip;

	if (pkt->proto != IPPROTO_ICMP || pkt->offset)
		return 0;
	if (pkt->ip_len < IP_HLEN + sizeof(icmp) || hook_load(ctx, pkt->l4, &icmp, sizeof(icmp)))
		return -DROP_TRUNC_L4;
	if (icmp.type == ICMP_N_REDIRECT || icmp.type == ICMP_N_SOURCE_QUENCH)
		return -DROP_ICMP_TYPE; /* never beyond the next router, and obsolete */
	if (!icmp_error(icmp.type))
		return 0;
	if (!HOOK_FINAL)
		return STOP_PUNT; /* too rare for the fast lane */
	q->ip = pkt->l4 + sizeof(icmp);
	if (q->ip + sizeof(ip) > L3_OFF + pkt->ip_len || hook_load(ctx, q->ip, &ip, sizeof(ip)) ||
	    ip.version != 4 || ip.ihl < 5)
		return -DROP_ICMP_INNER;
	q->ip_sum = ip.check;
	q->icmp_sum = icmp.sum;
	q->addr = q->ip +
		  (pkt->inward ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr));
	q->from.word[0] = pkt->inward ? ip.saddr : ip.daddr;
	fip_quote_sum(ctx, pkt, &ip, q);
	return 0;
}

static __always_inline int fip_quote_rewrite(ctx_t *ctx, struct fip_pkt *pkt)
{
	const struct fip_quote *q = &pkt->quote;
	__u64 addr_diff = csum_addr(&q->from, &q->to), diff = addr_diff;
	__u16 sum = ~csum_fold((__u64)(__u16)~q->ip_sum + addr_diff);

	diff += (__u64)(__u16)~q->ip_sum + sum;
	if (hook_store(ctx, q->ip + offsetof(struct iphdr, check), &sum, sizeof(sum)) ||
	    hook_store(ctx, q->addr, &q->to, sizeof(q->to)))
		return -DROP_INTERNAL;
	if (q->sum_off) {
		sum = ~csum_fold((__u64)(__u16)~q->l4_sum + addr_diff);
		diff += (__u64)(__u16)~q->l4_sum + sum;
		if (hook_store(ctx, q->sum_off, &sum, sizeof(sum)))
			return -DROP_INTERNAL;
	}
	sum = ~csum_fold((__u64)(__u16)~q->icmp_sum + diff);
	if (hook_store(ctx, pkt->l4 + offsetof(struct icmp_header, sum), &sum, sizeof(sum)))
		return -DROP_INTERNAL;
	return 0;
}
