package keeper

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/l7/proxy"
)

// process is a running sidecar, a child or one that an earlier agent has left.
type process struct {
	pid    int
	handle *os.File // pidfd
	// exited is closed when it is gone, and reaped if it is a child.
	exited chan struct{}
}

const (
	// nameFlag tells whoever lists processes whose sidecar this is: its value is the path
	// of the control socket.
	nameFlag = "--control"
	// A log that is longer is begun anew: it may lie in memory.
	longestLog = 1 << 20
	// killTime bounds how long a killed process takes to be gone.
	killTime = 5 * time.Second
	// descriptors that a sidecar may need: two for each client, and some.
	descriptors      = 2*proxy.MostConnections + spareDescriptors
	spareDescriptors = 256
)

// UserOf is the user and group id of a pool's sidecar.
func UserOf(poolID string) uint32 {
	sum := sha256.Sum256([]byte(poolID))
	return 0x70000000 | binary.BigEndian.Uint32(sum[:4])&0xffffff
}

// spawn starts the program as the successor of whom the connection leads to, which it
// takes over.
func (k *Keeper) spawn(p *place, from string, predecessor *os.File) (*process, error) {
	defer predecessor.Close()
	k.trimLog(p.id)
	log, err := openLog(k.path(p.id, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	id := UserOf(p.id)
	cmd := exec.Command("/proc/self/fd/4")
	cmd.Args = append(append([]string{"qlbaas"}, k.options.Command[1:]...),
		nameFlag, k.path(p.id, "sock"), "--from", from, "--predecessor-fd", "3")
	cmd.ExtraFiles = []*os.File{predecessor, k.program}
	cmd.Env, cmd.Dir, cmd.Stderr = []string{}, "/", log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: id, Gid: id}}
	if err := k.options.Spaces.Inside(p.id, func() error {
		if err := dropInheritable(); err != nil {
			return err
		}
		return cmd.Start()
	}); err != nil {
		return nil, fmt.Errorf("start sidecar: %w", err)
	}
	proc := &process{pid: cmd.Process.Pid, exited: make(chan struct{})}
	proc.handle, err = openProcess(proc.pid)
	go func() {
		_ = cmd.Wait() // how it ended says its log
		close(proc.exited)
		if proc.handle != nil {
			proc.handle.Close()
		}
	}()
	if err != nil {
		_ = cmd.Process.Kill() // fails only when it is gone
		<-proc.exited
		return nil, fmt.Errorf("start sidecar: %w", err)
	}
	return proc, nil
}

// raiseLimit lets this process's children have as many descriptors as a sidecar may need,
// or as many as it can, and returns how many clients those are good for. Sidecars raise
// the limit that holds up to that one themselves.
func raiseLimit() (clients int64, err error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("ask how many files may be open: %w", err)
	}
	if limit.Max >= descriptors {
		return proxy.MostConnections, nil
	}
	clients = max(1, (int64(limit.Max)-spareDescriptors)/2)
	limit.Max = descriptors
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return clients, fmt.Errorf("raise the limit of open files: %w", err)
	}
	return proxy.MostConnections, nil
}

// dropInheritable takes from the calling thread what a child would get although it
// changes its user.
func dropInheritable() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("ask for capabilities: %w", err)
	}
	if data[0].Inheritable|data[1].Inheritable == 0 {
		return nil
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("drop inheritable capabilities: %w", err)
	}
	return nil
}

func openLog(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the sidecar's log: %w", err)
	}
	return f, nil
}

// trimLog bounds the log of a sidecar that has much to say, or wants to do harm.
func (k *Keeper) trimLog(poolID string) {
	path := k.path(poolID, "log")
	info, err := os.Stat(path)
	if err != nil || info.Size() <= longestLog {
		return
	}
	if err := os.Truncate(path, 0); err != nil {
		k.log.Warn("the log of a sidecar grows", "path", path, "err", err)
	}
}

// lastLine is what a sidecar that ended had to say.
func lastLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const tail = 2 << 10
	if info, err := f.Stat(); err == nil && info.Size() > tail {
		_, _ = f.Seek(-tail, 2) // then it reads from the start
	}
	text := make([]byte, tail)
	n, _ := f.Read(text) // nothing is said, then
	lines := strings.Split(strings.TrimSpace(string(text[:n])), "\n")
	return lines[len(lines)-1]
}

// openProcess pins a process down, so that its id cannot come to mean another one.
func openProcess(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// adoptProcess takes a process over that is not a child. It must be the pool's.
func (k *Keeper) adoptProcess(pid int, poolID string) (*process, error) {
	handle, err := openProcess(pid)
	if err != nil {
		return nil, err
	}
	if id, ok := k.poolOf(pid); !ok || id != poolID {
		handle.Close()
		return nil, fmt.Errorf("adopt process %d: it is no sidecar of pool %s", pid, poolID)
	}
	p := &process{pid: pid, handle: handle, exited: make(chan struct{})}
	raw, err := handle.SyscallConn()
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("adopt process %d: %w", pid, err)
	}
	go func() {
		// An error says that the handle was closed: nobody asks any more.
		err := raw.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return err == nil && n > 0
		})
		if err == nil {
			close(p.exited)
			handle.Close()
		}
	}()
	return p, nil
}

// kill ends the process at once and waits until it is gone.
func (p *process) kill() error {
	if err := p.signal(unix.SIGKILL); err != nil {
		return err
	}
	return p.wait(killTime)
}

func (p *process) signal(s unix.Signal) error {
	raw, err := p.handle.SyscallConn()
	if err != nil {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	if p.gone() {
		return nil
	}
	var inner error
	err = raw.Control(func(fd uintptr) { inner = unix.PidfdSendSignal(int(fd), s, nil, 0) })
	if err = errors.Join(err, inner); err != nil && !errors.Is(err, unix.ESRCH) && !p.gone() {
		return fmt.Errorf("signal process %d: %w", p.pid, err)
	}
	return nil
}

func (p *process) wait(bound time.Duration) error {
	select {
	case <-p.exited:
		return nil
	case <-time.After(bound):
		return fmt.Errorf("wait for process %d: %w", p.pid, os.ErrDeadlineExceeded)
	}
}

// gone tells whether it has exited.
func (p *process) gone() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// busy tells whether a thread of it runs, or waits for a processor or for memory from disk.
func (p *process) busy() bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.pid)) // the pattern is sound
	for _, task := range tasks {
		stat, err := os.ReadFile(task)
		if _, state, found := bytes.Cut(stat, []byte(") ")); err == nil && found && (state[0] == 'R' || state[0] == 'D') {
			return true
		}
	}
	return false
}

// processes lists the sidecars of this keeper and those before it, by pool.
func (k *Keeper) processes() (map[string][]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	found := map[string][]int{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if id, ok := k.poolOf(pid); ok {
			found[id] = append(found[id], pid)
		}
	}
	return found, nil
}

// poolOf tells whose sidecar a process is, if it is one. What the process itself could
// have changed does not make it another pool's: the user is the kernel's word.
func (k *Keeper) poolOf(pid int) (poolID string, ok bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", false
	}
	_, rest, _ := strings.Cut(string(status), "\nUid:\t")
	text, _, _ := strings.Cut(rest, "\t")
	user, err := strconv.ParseUint(text, 10, 32)
	if err != nil || user>>24 != 0x70 {
		return "", false
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return "", false
	}
	words := strings.Split(string(line), "\x00")
	at := slices.Index(words, nameFlag)
	if at < 0 || at+1 >= len(words) || filepath.Dir(words[at+1]) != k.dir {
		return "", false
	}
	id := strings.TrimSuffix(filepath.Base(words[at+1]), ".sock")
	return id, uint64(UserOf(id)) == user
}

// killAll ends all processes of a pool.
func (k *Keeper) killAll(poolID string) error {
	all, err := k.processes()
	if err != nil {
		return err
	}
	for _, pid := range all[poolID] {
		p, err := k.adoptProcess(pid, poolID)
		if err != nil {
			continue // it has just gone
		}
		err = p.kill()
		p.handle.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
