//go:build ignore
#define ADDR_WORDS 4
#include "lib/tc_lb.h"
