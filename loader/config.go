package loader

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// configuration is what a person finds in the state directory: the applied balancer
// in plain words. It is never read back; the truth is in the kernel and in the
// service's store.
type configuration struct {
	Pool      string       `json:"pool"`
	AdminUp   bool         `json:"admin_up"`
	Method    string       `json:"method"`
	Sidecar   string       `json:"sidecar,omitempty"`
	VIP       vipConfig    `json:"vip"`
	SNAT      []string     `json:"snat_addresses,omitempty"`
	Members   []memberText `json:"members"`
	Drain     string       `json:"drain_timeout"`
	Namespace string       `json:"namespace"`
	Inside    string       `json:"inside_device"`
	Outside   string       `json:"outside_device,omitempty"`
	Pins      string       `json:"pins"`
	Hook      string       `json:"hook"`
}

type vipConfig struct {
	ID              string `json:"id"`
	Port            string `json:"port"`
	AdminUp         bool   `json:"admin_up"`
	Listener        string `json:"listener"`
	Subnet          string `json:"subnet"`
	Gateway         string `json:"gateway,omitempty"`
	MAC             string `json:"mac"`
	Bridge          string `json:"bridge"`
	VLAN            uint16 `json:"vlan,omitempty"`
	ConnectionLimit int64  `json:"connection_limit"`
	Persistence     string `json:"persistence"`
	IdleTimeout     string `json:"idle_timeout"`
	FlowLimit       uint32 `json:"flow_limit"`
}

type memberText struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Weight  uint16 `json:"weight"`
	AdminUp bool   `json:"admin_up"`
}

func (m Method) String() string {
	switch m {
	case RoundRobin:
		return "ROUND_ROBIN"
	case LeastConnections:
		return "LEAST_CONNECTIONS"
	case SourceIP:
		return "SOURCE_IP"
	}
	return fmt.Sprintf("method %d", uint8(m))
}

func (n *Node) describe(b *Balancer, p *pool) configuration {
	c := configuration{
		Pool: b.PoolID, AdminUp: b.AdminUp, Method: b.Method.String(), Drain: b.DrainTimeout.String(),
		VIP: vipConfig{
			ID: b.VIP.ID, Port: b.VIP.PortID, AdminUp: b.VIP.AdminUp,
			Listener: kernelProtocol(b.Protocol).String() + " " + addrPort(b).String(), Subnet: b.VIP.Address.Masked().String(),
			MAC: b.VIP.MAC.String(), Bridge: b.VIP.Bridge, VLAN: b.VIP.VLAN, ConnectionLimit: b.VIP.ConnectionLimit,
			Persistence: "none", IdleTimeout: b.idleTimeout().String(), FlowLimit: b.flowLimit(),
		},
		Members:   []memberText{},
		Namespace: namespaceName(b.PoolID), Inside: insideName(b.VIP.PortID),
		Pins: p.pins.Dir, Hook: n.hook.name,
	}
	if n.driver.Pairs() {
		c.Outside = outsideName(b.VIP.PortID)
	}
	if b.VIP.Gateway.IsValid() {
		c.VIP.Gateway = b.VIP.Gateway.String()
	}
	if b.VIP.Persistence == SourceIPPersistence {
		c.VIP.Persistence = "SOURCE_IP for " + b.VIP.PersistenceTimeout.String()
		if b.VIP.PersistenceTimeout == time.Duration(0) {
			c.VIP.Persistence = "SOURCE_IP without end"
		}
	}
	if b.Sidecar != NoSidecar {
		c.Sidecar = b.Sidecar.String()
	}
	for _, a := range b.SNAT {
		c.SNAT = append(c.SNAT, a.String())
	}
	for _, m := range b.Members {
		c.Members = append(c.Members, memberText{m.ID, m.Address.String(), m.Weight, m.AdminUp})
	}
	return c
}

func (n *Node) stateDir(poolID string) string {
	return filepath.Join(n.opts.StateDir, "pools", poolID)
}

// ensureConfig writes the configuration file if it does not say what is applied. It
// takes the old one's place whole.
func (n *Node) ensureConfig(ctx context.Context, p *pool, b *Balancer) error {
	text, err := json.MarshalIndent(n.describe(b, p), "", "  ")
	if err != nil {
		return fmt.Errorf("describe pool: %w", err)
	}
	text = append(text, '\n')
	path := filepath.Join(n.stateDir(p.id), "config.json")
	found, err := os.ReadFile(path)
	if err == nil && bytes.Equal(found, text) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read configuration file: %w", err)
	}
	if err := n.step(ctx, "write configuration file"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	if err := os.WriteFile(path+".new", text, 0o640); err != nil {
		return fmt.Errorf("write configuration file: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write configuration file: %w", err)
	}
	return nil
}

// removeConfig removes the pool's state directory.
func (n *Node) removeConfig(ctx context.Context, poolID string) error {
	dir := n.stateDir(poolID)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := n.step(ctx, "remove state directory"); err != nil {
		return err
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove state directory: %w", err)
	}
	return nil
}
