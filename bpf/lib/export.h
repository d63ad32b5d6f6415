/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Types that Go needs, but that clang would leave out of the object's BTF or
 * describe as mere forward declarations, because only inner maps or integers hold
 * them. A pointer makes each description whole; nothing reads the pointers.
 */
#pragma once

#define EXPORT(kind, name) const kind name *export_##name

EXPORT(struct, vip);
EXPORT(struct, member);
EXPORT(struct, schedule_block);
EXPORT(struct, weight_block);
EXPORT(struct, member_state);
EXPORT(struct, member_counters);
EXPORT(struct, affinity);
EXPORT(struct, sweep);
EXPORT(enum, flow_state);
EXPORT(enum, vip_flags);
EXPORT(enum, method);
EXPORT(enum, member_flags);
EXPORT(enum, sweep_flags);
EXPORT(enum, event);
EXPORT(enum, verdict);
EXPORT(enum, drop_reason);
