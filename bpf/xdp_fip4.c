//go:build ignore
#define ADDR_WORDS 1
#include "lib/xdp_fip.h"
