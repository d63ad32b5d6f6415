//go:build ignore
#define ADDR_WORDS 4
#include "lib/tap_lb.h"
