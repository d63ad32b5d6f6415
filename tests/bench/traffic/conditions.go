package traffic

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
)

// conditions says whom we compare with, and on what.
func (r *runner) conditions(ctx context.Context) error {
	for name, command := range map[string][]string{
		"haproxy": {"haproxy", "-v"}, "nginx": {"nginx", "-v"}, "nft": {"nft", "--version"}, "wrk": {"wrk", "-v"},
	} {
		said, err := r.clients[0].Run(ctx, command[0], command[1:]...)
		if line, _, _ := strings.Cut(said, "\n"); line != "" { // wrk says it and fails
			r.report.Conditions[name] = line
		} else if err != nil {
			return err
		}
	}
	for _, key := range []string{"ipv4/tcp_max_tw_buckets", "ipv4/ip_local_port_range", "ipv4/tcp_timestamps"} {
		err := r.members[0].host.Do(func() error {
			value, err := os.ReadFile("/proc/sys/net/" + key)
			r.report.Conditions["members' "+key] = strings.Join(strings.Fields(string(value)), " ")
			return err
		})
		if err != nil {
			return err
		}
	}
	before, err := readClock()
	if err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	after, err := readClock()
	if err != nil {
		return err
	}
	idle := float64(after.busy(before)) / float64(after.at.Sub(before.at))
	r.report.Conditions["CPUs busy with other things before"] = fmt.Sprintf("%.2f", idle)
	return nil
}
