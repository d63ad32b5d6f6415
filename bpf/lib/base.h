/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What every program of the balancer includes first: the kernel's words, ours, and the maps. */
#pragma once

#include "kernel.h"
#include "types.h"
#include "outcome.h"
#include "maps.h"
#include "lookup.h"
#include "export.h"
#include "csum.h"
