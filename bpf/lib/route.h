/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Where a packet goes once it carries its new addresses: the namespace's own
 * routes and neighbours decide. Nothing of the packet is changed here, so that an XDP
 * program can still leave it to the tc program.
 */
#pragma once

/* The question where a packet goes that a flow gives its addresses to. */
static __always_inline void route_question(ctx_t *ctx, struct bpf_fib_lookup *fib,
					   const struct pkt *pkt, const struct flow *flow)
{
	ip_route_key(fib, pkt, flow);
	fib->l4_protocol = pkt->key.proto;
	fib->tot_len = pkt->seg_len;
	fib->sport = flow->sport;
	fib->dport = flow->dport;
	fib->ifindex = hook_ifindex(ctx);
}

/* Asks for the route of what the packet becomes by that flow. */
static __noinline int route(ctx_t *ctx, struct pkt *pkt, const struct flow *flow)
{
	struct bpf_fib_lookup fib = {};

	route_question(ctx, &fib, pkt, flow);
	switch (bpf_fib_lookup(ctx, &fib, sizeof(fib), 0)) {
	case BPF_FIB_LKUP_RET_SUCCESS:
		__builtin_memcpy(pkt->dmac, fib.dmac, ETH_ALEN);
		__builtin_memcpy(pkt->smac, fib.smac, ETH_ALEN);
		break;
	case BPF_FIB_LKUP_RET_NO_NEIGH:
		if (!HOOK_FINAL)
			return STOP_PUNT;
		pkt->resolve = 1;
		break;
	case BPF_FIB_LKUP_RET_FRAG_NEEDED:
		pkt->mtu = fib.mtu_result;
		if (pkt->df)
			answer_wanted(pkt, ANSWER_FRAG_NEEDED);
		return -DROP_TOO_BIG;
	default:
		return -DROP_NO_ROUTE;
	}
	pkt->out = fib.ifindex;
	pkt->mtu = fib.mtu_result;
	return 0;
}

#if HOOK_FINAL

/* Asks for the other direction's route, too, and remembers it. So what hurries ahead at the
 * outside device is refreshed by acknowledgments, and no data is ever overtaken. */
static __noinline int route_mate(ctx_t *ctx, struct pkt *pkt, const struct flow *flow)
{
	struct bpf_fib_lookup fib = {};
	struct flow_key key = {};
	struct flow_entry *mate;

	mate_key(&key, flow, pkt->key.proto);
	mate = bpf_map_lookup_elem(&flows, &key);
	if (!mate)
		return 0;
	route_question(ctx, &fib, pkt, &mate->flow);
	if (bpf_fib_lookup(ctx, &fib, sizeof(fib), 0) == BPF_FIB_LKUP_RET_SUCCESS &&
	    fib.ifindex == hook_ifindex(ctx))
		route_keep(mate, fib.dmac, fib.mtu_result, pkt->now);
	return 0;
}

#else

static __always_inline int route_mate(ctx_t *ctx __attribute__((unused)),
				      struct pkt *pkt __attribute__((unused)),
				      const struct flow *flow __attribute__((unused)))
{
	return 0;
}

#endif
