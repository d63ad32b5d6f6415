package keeper_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/l7/control"
	"qlbaas/l7/keeper"
	"qlbaas/l7/pool"
	"qlbaas/l7/proxy"
)

// TestProcess: the sidecar serves, and has no rights. Its program lies where its user
// cannot look: the directory of test binaries is open to root alone.
func TestProcess(t *testing.T) {
	w := running(t)
	if a, b := w.mustGet(), w.mustGet(); a == b {
		t.Errorf("%s and %s answered", a, b)
	}
	pid := w.pid()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	w.must(err)
	user := fmt.Sprint(keeper.UserOf(id))
	for _, line := range []string{
		"Uid:\t" + strings.Join([]string{user, user, user, user}, "\t"), "Gid:\t" + strings.Join([]string{user, user, user, user}, "\t"),
		"Groups:\t ", "NoNewPrivs:\t1", "Seccomp:\t2",
		"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000",
	} {
		if !strings.Contains(string(status), "\n"+line+"\n") {
			t.Errorf("its status lacks %q:\n%s", line, status)
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	w.must(err)
	var soft, hard uint64
	_, files, _ := strings.Cut(string(limits), "Max open files")
	var own unix.Rlimit
	w.must(unix.Getrlimit(unix.RLIMIT_NOFILE, &own))
	if _, err := fmt.Sscan(files, &soft, &hard); err != nil || soft < min(2*proxy.MostConnections, own.Max) {
		t.Errorf("it may open %d files, %v", soft, err)
	}
	if line := "Max core file size        0                    0"; !strings.Contains(string(limits), line) {
		t.Errorf("its limits lack %q:\n%s", line, limits)
	}
	if sid, err := unix.Getsid(pid); sid != pid {
		t.Errorf("its session is %d, %v", sid, err)
	}
	for fd, want := range map[int]string{0: "/dev/null", 1: "/dev/null", 2: w.path("log")} {
		if is, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd)); is != want {
			t.Errorf("its descriptor %d is %s, %v", fd, is, err)
		}
	}
	if info, err := os.Stat(w.dir + "/l7"); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info, err)
	}
	other := keeper.UserOf("3b1c5a3e-5d0c-4b59-8d6d-000000000002")
	if other == keeper.UserOf(id) || other < 0x70000000 || other > 0x70ffffff {
		t.Errorf("user %d for another pool", other)
	}
}

// TestCrash: whoever connects meanwhile waits, and counters and cookies stay.
func TestCrash(t *testing.T) {
	w := running(t)
	for range 10 {
		w.mustGet()
	}
	before := w.counted()
	old := w.pid()
	w.signal(old, unix.SIGKILL)
	start := time.Now()
	w.mustGet()
	if took := time.Since(start); took > mended {
		t.Errorf("an answer took %s", took)
	}
	w.awaitMended(old)
	if s := w.counted(); s.Proxy.Requests != before.Proxy.Requests+1 || s.Proxy.Accepted != before.Proxy.Accepted+1 ||
		s.Pool.Members[0].Requests+s.Pool.Members[1].Requests != 11 {
		t.Errorf("counters %+v after %+v", s, before)
	}
	if info, _ := w.keeper.Info(id); info.Restarts != 1 || info.Err != nil {
		t.Errorf("%+v", info)
	}
}

// TestHang: one that does not answer is replaced.
func TestHang(t *testing.T) {
	w := running(t)
	w.mustGet()
	old := w.pid()
	w.hang(old)
	if took := w.awaitMended(old); took > mended {
		t.Errorf("it took %s", took)
	}
	w.mustGet()
	if err := unix.Kill(old, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the old one: %v", err)
	}
}

// TestLearned: cookies that the application gave are known to the next one.
func TestLearned(t *testing.T) {
	w := newWorld(t)
	w.open("1")
	w.keeper.RememberEvery(10 * time.Millisecond)
	c := basic()
	c.Pool.Persistence, c.Pool.CookieName = pool.AppCookie, "SID"
	w.must(w.keeper.Ensure(w.context(), id, vip, c))
	w.giveCookies()
	w.mustGet()
	w.await("the copy", func() error { return w.keeper.Remembers(id, 1) })
	old := w.pid()
	w.signal(old, unix.SIGKILL)
	w.awaitMended(old)
	if s := w.counted(); s.Pool.Learned != 1 {
		t.Errorf("%d cookies are known", s.Pool.Learned)
	}
}

// TestFalls: one that does not stay alive is started with pauses, and Ensure says so.
func TestFalls(t *testing.T) {
	w := running(t)
	for range 3 {
		old := w.pid()
		w.signal(old, unix.SIGKILL)
		if len(w.changed) == 0 {
			w.await("its end", func() error {
				if info, _ := w.keeper.Info(id); info.PID == old && info.Err == nil {
					return errors.New("not yet")
				}
				return nil
			})
		}
	}
	w.awaitChanged()
	if err := w.keeper.Ensure(w.context(), id, vip, basic()); err != nil && !errors.Is(err, keeper.ErrUnfit) {
		t.Errorf("%v", err)
	}
	w.await("a sound one", func() error { return w.keeper.Ensure(w.context(), id, vip, basic()) })
	w.mustGet()
}

// TestUnfit: what cannot be started is told with its own words, and leaves nothing.
func TestUnfit(t *testing.T) {
	w := newWorld(t)
	w.open("1", "-fail")
	err := w.keeper.Ensure(w.context(), id, vip, basic())
	if err == nil || !strings.Contains(err.Error(), "this one does not want to") {
		t.Errorf("%v", err)
	}
	bad := basic()
	bad.Pool.Method = "RANDOM"
	if err := w.keeper.Ensure(w.context(), id, vip, bad); !errors.Is(err, pool.ErrInvalid) {
		t.Errorf("%v", err)
	}
	w.must(w.keeper.Remove(w.context(), id))
	if left := w.keeper.Pools(); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// TestHealth: liveness arrives, and what somebody else has changed is set right.
func TestHealth(t *testing.T) {
	w := running(t)
	w.must(w.keeper.SetMemberUp(id, "m0", false))
	w.must(w.keeper.SetMemberUp(id, "nobody", false))
	w.must(w.keeper.SetMemberUp("other", "m0", false))
	for range 4 {
		if who := w.mustGet(); who != "m1" {
			t.Errorf("%s answered", who)
		}
	}
	old := w.pid()
	w.signal(old, unix.SIGKILL)
	w.awaitMended(old)
	if who := w.mustGet(); who != "m1" {
		t.Errorf("%s answered the successor's client", who)
	}
	client, err := control.Dial(w.context(), w.path("sock"))
	w.must(err)
	defer client.Close()
	w.must(client.SetUp(w.context(), "m1", false))
	w.await("repair", func() error {
		s, err := client.Stats(w.context())
		if err == nil && !s.Pool.Members[1].Up {
			err = errors.New("it is down")
		}
		return err
	})
}

func TestRemove(t *testing.T) {
	w := running(t)
	w.connect()
	pid := w.pid()
	w.must(w.keeper.Remove(w.context(), id))
	if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("process %d: %v", pid, err)
	}
	if files, err := os.ReadDir(w.dir + "/l7"); err != nil || len(files) > 0 {
		t.Errorf("left are %v, %v", files, err)
	}
	if _, ok := w.keeper.Stats(id); ok {
		t.Error("counters are left")
	}
	if _, err := w.get(w.context()); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a client met %v", err)
	}
}
