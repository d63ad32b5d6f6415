/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* How programs find what the maps hold. */
#pragma once

static __always_inline struct pool_state *pool_state_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&pool_state, &zero);
}

static __always_inline struct conns *conns_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&conns, &zero);
}

static __always_inline struct member_state *member_state_get(__u32 slot)
{
	void *inner = bpf_map_lookup_elem(&member_states, &slot);
	__u32 zero = 0;

	return inner ? bpf_map_lookup_elem(inner, &zero) : NULL;
}

/* The ports toward a member from one of the VIP's source addresses. */
static __always_inline struct member_state *ports_get(__u32 slot, __u32 snat)
{
	return member_state_get(snat * MAX_SLOTS + slot);
}

static __always_inline struct member_counters *counters_get(__u32 slot)
{
	void *inner = bpf_map_lookup_elem(&counters, &slot);
	__u32 zero = 0;

	return inner ? bpf_map_lookup_elem(inner, &zero) : NULL;
}

static __always_inline struct vip *vip_get(void)
{
	__u32 zero = 0;
	void *inner = bpf_map_lookup_elem(&vips, &zero);

	return inner ? bpf_map_lookup_elem(inner, &zero) : NULL;
}

static __always_inline struct member *member_get(const struct vip *vip, __u32 slot)
{
	__u32 half = vip->half;
	void *inner = bpf_map_lookup_elem(&members, &half);

	return inner ? bpf_map_lookup_elem(inner, &slot) : NULL;
}

/* What the monitors say of the slot's member; false when it is nobody's any more. */
static __always_inline bool slot_up(__u32 slot)
{
	struct health *h = bpf_map_lookup_elem(&health, &slot);

	return h && h->up;
}
