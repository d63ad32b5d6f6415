/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * One packet on its way through the program. Lives on the entry's stack; every
 * step reads it and fills in what it found.
 *
 * A step returns 0 = go on, -DROP_x = the packet ends here, or one of the STOP_
 * values.
 */
#pragma once

#define STOP_PASS 1    /* not ours: leave it to the namespace's stack, untouched */
#define STOP_FORWARD 2 /* rewritten, may leave */
#define STOP_PUNT 3    /* XDP: the tc program must finish it; nothing was changed */
#define STOP_RENEW 4   /* its flow was over and is gone: look at it as a stranger */
#define STOP_LAST 5    /* the last packet of its handshake: forward, then forget */
#define STOP_AGAIN 6   /* its entries have just been made: look it up again */
#define STOP_ICMP 7    /* no transport of ours: it may be about one */
#define STOP_ASK 8     /* the member is to be asked for a client that brought a cookie */

struct pkt {
	struct flow_key key;
	__u32 l4;      /* offset of the transport header */
	__u32 ip_len;  /* IP length, of the whole super-packet */
	__u32 segs;    /* segments on the wire */
	__u32 bytes;   /* IP bytes on the wire, all segments */
	__u32 seg_len; /* IP length of the largest segment */
	__u32 now;     /* tick */
	__u32 seq;
	__u32 ack;
	__u32 end; /* sequence number after this segment */
	__u8 tcp_flags;
	__u8 l4_len; /* the transport header's length */
	__u8 ttl;
	__u8 tos;
	__u8 no_sum;  /* UDP over IPv4 without checksum */
	__u8 cookie;  /* cookie_size + 1 of the cookie that it brought back */
	__u16 window; /* of who opened the connection by a cookie */
	/* filled by route() */
	__u32 out;     /* device */
	__u32 resolve; /* the neighbour is not known yet */
	__u8 dmac[ETH_ALEN];
	__u8 smac[ETH_ALEN];
	/* filled by whoever finds the packet worth an answer */
	__u32 answer;	      /* enum answer */
	__u32 answer_limited; /* anybody can ask for it: at most so many */
	__u32 mtu;	      /* of the route; what ANSWER_FRAG_NEEDED says */
	__u32 df;	      /* may not be fragmented */
	__u32 avoid;	      /* slot + 1 of a member that turned out to have no free port */
};

/* What a packet that ends here is answered with. */
enum answer {
	ANSWER_NONE = 0,
	ANSWER_RST = 1,	     /* to its sender */
	ANSWER_RST_BOTH = 2, /* to its sender, and as a RST to where it was going */
	ANSWER_TIME_EXCEEDED = 3,
	ANSWER_FRAG_NEEDED = 4,
	ANSWER_UNREACHABLE = 5, /* no such port: UDP's word for a RST */
	ANSWER_COOKIE = 6,	/* SYN+ACK with a cookie */
};

#define ANSWER_TTL 64

/* Where the sum stands in a transport header. */
#define TCP_SUM_OFF offsetof(struct tcphdr, check)
#define UDP_SUM_OFF offsetof(struct udphdr, check)

enum tcp_flags {
	TCP_FIN = 1,
	TCP_SYN = 2,
	TCP_RST = 4,
	TCP_PSH = 8,
	TCP_ACK = 16,
};

/* Wants an answer of a kind that is limited. */
static __always_inline void answer_wanted(struct pkt *pkt, enum answer answer)
{
	pkt->answer = answer;
	pkt->answer_limited = 1;
}

/* Can the packet travel no further? Asked before it leaves any trace. */
static __always_inline bool ttl_spent(struct pkt *pkt)
{
	if (pkt->ttl > 1)
		return false;
	answer_wanted(pkt, ANSWER_TIME_EXCEEDED);
	return true;
}

static __always_inline __u32 ticks_now(void)
{
	return bpf_ktime_get_coarse_ns() >> 20;
}

/* Is it the VIP, or another address that members see? */
__noinline int addr_ours(const struct addr *addr)
{
	const struct vip *vip = vip_get();

	if (!vip || !addr)
		return 0;
	if (addr_equal(addr, &vip->addr))
		return 1;
	for (__u32 i = 1; i < SNAT_ADDRESSES && i < vip->snats; i++)
		if (addr_equal(addr, &vip->snat[i]))
			return 1;
	return 0;
}

/* A defect of a packet for somebody else is somebody else's. */
static __always_inline int defect(const struct pkt *pkt, int reason)
{
	return addr_ours(&pkt->key.daddr) ? -reason : STOP_PASS;
}

#if ADDR_WORDS == 1
#define PROTO_ICMP IPPROTO_ICMP
#else
#define PROTO_ICMP IPPROTO_ICMPV6
#endif

static __always_inline bool proto_known(__u32 proto)
{
	return proto == IPPROTO_TCP || proto == IPPROTO_UDP || proto == PROTO_ICMP;
}

static __always_inline bool addr_multicast(const struct addr *addr)
{
	__u8 first = bpf_ntohl(addr->word[0]) >> 24;

	return ADDR_WORDS == 1 ? first >= 224 : first == 0xff;
}
