package healthd

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Times are milliseconds since the pulse began: the beats that came, then a probe
// that lasted from start to now.
func TestPulseNoticesStandstill(t *testing.T) {
	for _, c := range []struct {
		name       string
		beats      []int
		start, now int
		want       bool
	}{
		{"regular beats", []int{250, 500, 750, 1000}, 100, 1100, false},
		{"a late beat is no standstill", []int{250, 500, 1200}, 100, 1300, false},
		{"the prober wakes before the beat", []int{250, 500}, 400, 5000, true},
		{"the beat wakes before the prober", []int{250, 500, 5000}, 400, 5000, true},
		{"standstill in the middle", []int{250, 500, 3000, 3250, 3500}, 400, 3600, true},
		{"standstill before the probe", []int{250, 500, 3000, 3250}, 3100, 3300, false},
		{"the latest of two standstills", []int{250, 3000, 3250, 9000, 9250}, 8000, 9300, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p pulse
			ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
			for _, at := range c.beats {
				p.beatAt(ms(at))
			}
			if got := p.stalled(ms(c.start), ms(c.now)); got != c.want {
				t.Errorf("stalled = %v", got)
			}
		})
	}
}

const stopHelperEnv = "HEALTHD_TEST_STOP_HELPER"

// The helper's monitor: one failure is enough to go down.
var stopHelperCheck = Check{ID: "c", Type: HTTP, Delay: 50 * time.Millisecond, Timeout: time.Second, MaxRetries: 1}

type hereSockets struct{}

func (hereSockets) Socket(_ string, domain, typ, proto int) (int, error) {
	return unix.Socket(domain, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
}

type printSink struct{}

func (printSink) SetUp(v Verdict) { fmt.Println("verdict", v.Up, v.Reason) }

// runStopHelper checks one member, prints verdicts, and ends with its input.
func runStopHelper(addr string) {
	c := New(hereSockets{}, printSink{}, Options{})
	c.Set("pool", []Target{{Member: "m", Address: netip.MustParseAddrPort(addr), Checks: []Check{stopHelperCheck}, Up: true}})
	io.Copy(io.Discard, os.Stdin)
	c.Close()
}

// A daemon that is stopped while a probe is under way, longer than the probe's
// timeout, must not take the member down when it goes on; and afterwards still
// notices a member that hangs.
func TestStoppedProcessTakesNobodyDown(t *testing.T) {
	const addr = "127.0.0.1:8080"
	ns := newNetns(t)
	conns := make(chan net.Conn)
	end := make(chan struct{})
	ns.serve(t, addr, func(c net.Conn) {
		select {
		case conns <- c:
			<-end
		case <-end:
		}
	})
	t.Cleanup(func() { close(end) })

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	helper := exec.CommandContext(ctx, "/proc/self/exe")
	helper.Env = append(os.Environ(), stopHelperEnv+"="+addr)
	stdin, err := helper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	ns.do(func() { err = helper.Start() }) // a child starts where its parent thread is
	if err != nil {
		t.Fatal(err)
	}
	defer helper.Wait()
	defer stdin.Close()

	answer(<-conns) // it works at all
	hung := <-conns // under way
	pid := helper.Process.Pid
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("not stopped: %v, %#x", err, status)
	}
	<-time.After(2 * stopHelperCheck.Timeout) // the length of the stop is the subject
	if err := unix.Kill(pid, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		answer(<-conns)
	}
	hung.Close()
	// Any verdict so far would be printed before this one.
	down := <-conns
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if want := "verdict false HTTP: read the reply: timed out\n"; err != nil || line != want {
		t.Errorf("the first verdict is %q (%v), want %q", line, err, want)
	}
	down.Close()
}

func answer(c net.Conn) {
	c.Read(make([]byte, 4096))
	io.Copy(c, strings.NewReader("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
	c.Close()
}
