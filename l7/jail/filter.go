package jail

import "golang.org/x/sys/unix"

// allowed are the system calls that need no look at their arguments, the frequent ones
// first.
var allowed = []uint32{
	unix.SYS_READ, unix.SYS_WRITE, unix.SYS_EPOLL_PWAIT, unix.SYS_SPLICE, unix.SYS_RECVFROM, unix.SYS_FUTEX,
	unix.SYS_NANOSLEEP, unix.SYS_CLOSE, unix.SYS_ACCEPT4, unix.SYS_SETSOCKOPT, unix.SYS_GETSOCKOPT,
	unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_SHUTDOWN, unix.SYS_GETSOCKNAME, unix.SYS_GETPEERNAME,
	unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_RECVMSG, unix.SYS_WRITEV, unix.SYS_READV, unix.SYS_PREAD64,
	unix.SYS_EPOLL_CTL, unix.SYS_EPOLL_CREATE1, unix.SYS_EVENTFD2, unix.SYS_PIPE2, unix.SYS_FCNTL,
	unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_BRK, unix.SYS_MINCORE,
	unix.SYS_CLOCK_GETTIME, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_GETTIMEOFDAY, unix.SYS_RESTART_SYSCALL,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK,
	unix.SYS_TIMER_CREATE, unix.SYS_TIMER_SETTIME, unix.SYS_TIMER_DELETE, unix.SYS_SETITIMER,
	unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY, unix.SYS_GETPID, unix.SYS_GETTID, unix.SYS_GETUID,
	unix.SYS_GETRANDOM, unix.SYS_RSEQ, unix.SYS_SET_ROBUST_LIST, unix.SYS_MEMBARRIER, unix.SYS_PRCTL,
	unix.SYS_EXIT, unix.SYS_EXIT_GROUP,
}

// Where the kernel puts what a filter looks at (struct seccomp_data), and its answers.
const (
	atNumber = 0
	atArch   = 4
	atArg0   = 16 // its lower half, on little-endian machines
	atArg2   = atArg0 + 2*8

	allow    = uint32(unix.SECCOMP_RET_ALLOW)
	deny     = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.EPERM)
	unknown  = uint32(unix.SECCOMP_RET_ERRNO) | uint32(unix.ENOSYS)
	kill     = uint32(unix.SECCOMP_RET_KILL_PROCESS)
	loadWord = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	equal    = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	anyBit   = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
	atLeast  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	answer   = unix.BPF_RET | unix.BPF_K
)

// filter is the program that the kernel runs at every system call.
func filter(pid int) []unix.SockFilter {
	p := []unix.SockFilter{
		{Code: loadWord, K: atArch},
		{Code: equal, K: arch, Jt: 1},
		{Code: answer, K: kill},
		{Code: loadWord, K: atNumber},
		// Numbers of another calling convention on the same machine (x32).
		{Code: atLeast, K: 1 << 30, Jf: 1},
		{Code: answer, K: deny},
	}
	for _, number := range allowed {
		p = append(p, unix.SockFilter{Code: equal, K: number, Jf: 1}, unix.SockFilter{Code: answer, K: allow})
	}
	p = append(p, onArg(unix.SYS_SOCKET, atArg0, yes(equal, unix.AF_INET, unix.AF_INET6), deny)...)
	p = append(p, onArg(unix.SYS_CLONE, atArg0, yes(anyBit, unix.CLONE_THREAD), deny)...)
	p = append(p, onArg(unix.SYS_TGKILL, atArg0, yes(equal, uint32(pid)), deny)...)
	// Memory that is written is never executed.
	for _, number := range []uint32{unix.SYS_MMAP, unix.SYS_MPROTECT} {
		p = append(p, onArg(number, atArg2, when(anyBit, deny, unix.PROT_EXEC), allow)...)
	}
	return append(p,
		// C libraries fall back to clone where this is unknown.
		unix.SockFilter{Code: equal, K: unix.SYS_CLONE3, Jf: 1},
		unix.SockFilter{Code: answer, K: unknown},
		unix.SockFilter{Code: answer, K: deny})
}

// when answers with a verdict for each of some values.
func when(compare uint16, verdict uint32, values ...uint32) (p []unix.SockFilter) {
	for _, v := range values {
		p = append(p, unix.SockFilter{Code: compare, K: v, Jf: 1}, unix.SockFilter{Code: answer, K: verdict})
	}
	return p
}

func yes(compare uint16, values ...uint32) []unix.SockFilter { return when(compare, allow, values...) }

// onArg judges a system call by one of its arguments, and by otherwise if that says
// nothing.
func onArg(number, at uint32, judge []unix.SockFilter, otherwise uint32) []unix.SockFilter {
	skip := uint8(len(judge) + 2)
	p := []unix.SockFilter{{Code: equal, K: number, Jf: skip}, {Code: loadWord, K: at}}
	return append(append(p, judge...), unix.SockFilter{Code: answer, K: otherwise})
}
