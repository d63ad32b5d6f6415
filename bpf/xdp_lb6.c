//go:build ignore
#define ADDR_WORDS 4
#include "lib/xdp_lb.h"
