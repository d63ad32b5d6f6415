// Package floor is the least that a balancer on our hooks could cost: programs that make
// one fixed rewrite, attached where ours are. What is measured of them is the limit of the
// hook, and the distance to it is what the balancer's own work costs.
package floor

//go:generate go tool bpf2go -output-stem floor -no-global-types -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -I../../../bpf/include -I/usr/include/x86_64-linux-gnu" floor floor.c
