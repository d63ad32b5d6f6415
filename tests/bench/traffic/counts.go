package traffic

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
)

// counts are packets, as a balancer's devices, stack and programs count them.
type counts struct {
	// crossed went from the bridge's port into the namespace, received reached the
	// namespace's sockets, turned were sent back by XDP, and forwarded is what our own
	// programs say.
	crossed, received, turned, forwarded uint64
}

func (c counts) since(before counts) counts {
	return counts{
		crossed: c.crossed - before.crossed, received: c.received - before.received,
		turned: c.turned - before.turned, forwarded: c.forwarded - before.forwarded,
	}
}

// place is where a balancer's packets can be counted.
type place struct {
	tap, inside string
	enter       func(func() error) error
	forwarded   func() (uint64, error) // nil where no program of ours is
}

func (p place) inspect() (c counts, err error) {
	tap, err := netlink.LinkByName(p.tap)
	if err != nil {
		return c, fmt.Errorf("find device %s: %w", p.tap, err)
	}
	c.crossed = tap.Attrs().Statistics.TxPackets
	if p.forwarded != nil {
		if c.forwarded, err = p.forwarded(); err != nil {
			return c, err
		}
	}
	return c, p.enter(func() error {
		if c.received, err = kernelCount("/proc/thread-self/net/snmp", "Tcp:", "InSegs"); err != nil {
			return err
		}
		c.turned, err = turned(p.inside)
		return err
	})
}

// turned is how many frames XDP has sent back from a device of the thread's namespace.
func turned(device string) (n uint64, err error) {
	tool, err := ethtool.NewEthtool()
	if err != nil {
		return 0, fmt.Errorf("open ethtool: %w", err)
	}
	defer tool.Close()
	stats, err := tool.Stats(device)
	if err != nil {
		return 0, fmt.Errorf("read statistics of %s: %w", device, err)
	}
	for name, value := range stats {
		if strings.HasPrefix(name, "rx_queue_") && strings.HasSuffix(name, "_xdp_tx") {
			n += value
		}
	}
	return n, nil
}

// kernelCount adds up counters of /proc/net/snmp or netstat.
func kernelCount(path, group string, names ...string) (sum uint64, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var header []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || fields[0] != group {
			continue
		}
		if header == nil {
			header = fields
			continue
		}
		for i, name := range header {
			for _, wanted := range names {
				if name != wanted {
					continue
				}
				n, err := strconv.ParseUint(fields[i], 10, 64)
				if err != nil {
					return 0, fmt.Errorf("%s: %s: %w", path, name, err)
				}
				sum += n
			}
		}
		return sum, nil
	}
	return 0, fmt.Errorf("%s has no %s", path, group)
}

// rejects is how many segments members have refused by their timestamps.
func (l *laboratory) rejects() (sum uint64, err error) {
	for _, m := range l.members {
		err := m.host.Do(func() error {
			n, err := kernelCount("/proc/thread-self/net/netstat", "TcpExt:", "PAWSActive", "PAWSEstab", "PAWSTimewait")
			sum += n
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// strayed tells what is wrong with the way that packets have taken; there were that many of
// them at least, if each had been counted.
func (s *subject) strayed(c counts, packets float64) error {
	atLeast := func(what string, n uint64) error {
		if float64(n) < 0.9*packets {
			return fmt.Errorf("only %d packets of %.0f %s", n, packets, what)
		}
		return nil
	}
	atMost := func(what string, n uint64) error {
		if float64(n) > 0.1*packets {
			return fmt.Errorf("%d packets of %.0f %s", n, packets, what)
		}
		return nil
	}
	var errs []error
	switch s.way {
	case noWay:
	case byProxy:
		errs = append(errs, atLeast("reached the proxy", c.received))
	case byStack, byInside:
		errs = append(errs, atLeast("entered the namespace", c.crossed), atMost("reached its sockets", c.received))
	case byOutside, byOnlyPort:
		errs = append(errs, atMost("entered the namespace", c.crossed))
	case byXDP:
		errs = append(errs, atLeast("were sent back by XDP", c.turned), atMost("reached sockets", c.received))
	}
	if s.ours {
		errs = append(errs, atLeast("were counted by the program", c.forwarded))
	}
	return errors.Join(errs...)
}

// userHZ is the unit of /proc/stat, whatever the kernel's own.
const userHZ = 100

// clock is a point in time, and how long all CPUs had been idle by then.
type clock struct {
	at   time.Time
	idle time.Duration
}

func readClock() (clock, error) {
	now := time.Now()
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return clock{}, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	fields := strings.Fields(line)
	c := clock{at: now}
	// cpu user nice system idle iowait irq softirq steal: what was stolen is not ours
	for _, i := range []int{4, 5, 8} {
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return clock{}, fmt.Errorf("read /proc/stat: %w", err)
		}
		c.idle += time.Duration(ticks) * time.Second / userHZ
	}
	return c, nil
}

// busy is what all CPUs together have worked since then.
func (c clock) busy(before clock) time.Duration {
	return time.Duration(runtime.NumCPU())*c.at.Sub(before.at) - (c.idle - before.idle)
}
