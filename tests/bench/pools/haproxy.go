package pools

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"text/template"

	"qlbaas/tests/bench/table"
	"qlbaas/tests/lab"
)

//go:embed haproxy.cfg.tmpl
var haproxyConfig string

// peerAddress is the n-th process's.
func peerAddress(n int) netip.Addr { return netip.AddrFrom4([4]byte{172, 16, 200, byte(1 + n)}) }

// measureHAProxy starts processes, lets each of them serve once, and looks.
func (b *bench) measureHAProxy(ctx context.Context) (err error) {
	l, err := lab.New(lab.Options{Prefix: "peer-"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	if _, err := b.startHAProxy(ctx, l, b.processes); err != nil { // what comes with the first is the machine's
		return err
	}
	start, err := settled(ctx)
	if err != nil {
		return err
	}
	var all []*lab.Process
	var batches []float64
	for last := start; len(all) < b.processes; {
		began := len(all)
		for range b.processes / peerBatches {
			p, err := b.startHAProxy(ctx, l, len(all))
			if err != nil {
				return err
			}
			all = append(all, p)
		}
		now, err := settled(ctx)
		if err != nil {
			return err
		}
		batches = append(batches, (now-last)/float64(len(all)-began)/1e6)
		last = now
	}
	return b.weighHAProxy(all, batches)
}

// peerBatches is how often the kernel's memory is looked at while processes are started.
const peerBatches = 4

// weighHAProxy says what one of the processes takes.
func (b *bench) weighHAProxy(all []*lab.Process, batches []float64) error {
	var each []float64
	for _, p := range all {
		bytes, err := privateMemory(p.Pid())
		if err != nil {
			return err
		}
		each = append(each, bytes/1e6)
	}
	inKernel := table.Median(batches)
	b.figure(table.Of(private, haproxy, "MB", each))
	b.figure(table.Of(whole, haproxy, "MB", []float64{table.Median(each) + inKernel}))
	b.figure(table.Of(kernel, haproxy, "MB", []float64{inKernel}))
	b.doubt(haproxy, batches)
	b.note("HAProxy's memory is that of %d processes, each in a namespace of its own, after one request; a thousand are taken to be that many times as much", len(all))
	return nil
}

// startHAProxy makes a pool as Neutron did and waits until it serves.
func (b *bench) startHAProxy(ctx context.Context, l *lab.Lab, n int) (*lab.Process, error) {
	name := fmt.Sprint("ha", n)
	host, err := l.Host(name)
	if err != nil {
		return nil, err
	}
	vip := netip.AddrPortFrom(peerAddress(n), webPort)
	err = l.Link(
		lab.End{Host: host, Device: lab.Uplink, Addresses: []netip.Prefix{netip.PrefixFrom(vip.Addr(), subnet.Bits())}},
		lab.End{Host: b.Node, Device: "port-" + name, Bridge: lab.BridgeName}, 0)
	if err == nil {
		err = host.AddRoute(netip.Prefix{}, b.Gateway)
	}
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	values := struct {
		Dir, Name string
		VIP       netip.AddrPort
		Members   []netip.AddrPort
	}{b.dir, name, vip, b.endpoints()}
	if err := template.Must(template.New("").Parse(haproxyConfig)).Execute(&text, values); err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, name+".cfg")
	if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.Command("haproxy", "-db", "-q", "-f", path)
	cmd.Stderr = os.Stderr
	process, err := host.Start(cmd)
	if err != nil {
		return nil, err
	}
	if _, err := b.client.await(ctx, vip, seldom); err != nil {
		return nil, fmt.Errorf("haproxy %d: %w", n, err)
	}
	return process, nil
}
