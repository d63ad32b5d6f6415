/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What every program of the balancer includes first: the kernel's words, ours, and the maps. */
#pragma once

#include "kernel.h"
#include "types.h"

/* A function that IPv4 has room for on its caller's stack, and IPv6, with its addresses,
 * has not. Each function of its own takes six kilobytes of the kernel's memory per pool. */
#if ADDR_WORDS == 1
#define INLINE_IF_SMALL __always_inline
#else
#define INLINE_IF_SMALL __noinline __attribute__((unused))
#endif

#include "outcome.h"
#include "maps.h"
#include "lookup.h"
#include "export.h"
#include "csum.h"
