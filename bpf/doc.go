package bpf

//go:generate go tool bpf2go -output-stem tc_lb4 -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Iinclude -I/usr/include/x86_64-linux-gnu" -type addr -type vip -type member -type schedule_block -type weight_block -type member_state -type member_counters -type affinity -type sweep -type flow_state -type vip_flags -type method -type member_flags -type sweep_flags Lb4 tc_lb4.c
//go:generate go tool bpf2go -output-stem xdp_lb4 -no-global-types -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Wextra -Werror -Iinclude -I/usr/include/x86_64-linux-gnu" XdpLb4 xdp_lb4.c
