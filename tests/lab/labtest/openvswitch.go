package labtest

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"qlbaas/tests/lab"
)

// OpenVSwitch is a real one that forwards in userspace, in the test's own network
// namespace, with its files and its database in a directory of the test.
type OpenVSwitch struct {
	testing.TB
	// Socket is the database's.
	Socket string
	dir    string
	// kill ends the switch itself, which the database survives.
	kill func()
}

// switchPatience bounds what a switch is asked for.
const switchPatience = 20 * time.Second

// NewOpenVSwitch starts one, which ends with the test.
func NewOpenVSwitch(t testing.TB) *OpenVSwitch {
	t.Helper()
	dir := t.TempDir()
	s := &OpenVSwitch{TB: t, Socket: filepath.Join(dir, "db.sock"), dir: dir}
	database := filepath.Join(dir, "conf.db")
	s.run("ovsdb-tool", "create", database, "/usr/share/openvswitch/vswitch.ovsschema")
	s.start("ovsdb-server", database, "--remote=punix:"+s.Socket, "--unixctl="+filepath.Join(dir, "db.ctl"))
	s.Vsctl("--no-wait", "init")
	s.forward()
	return s
}

func (s *OpenVSwitch) forward() {
	s.Helper()
	s.kill = s.start("ovs-vswitchd", "unix:"+s.Socket, "--unixctl="+filepath.Join(s.dir, "switch.ctl"), "--disable-system")
}

// Restart kills the switch itself and starts it again.
func (s *OpenVSwitch) Restart() {
	s.Helper()
	s.kill()
	s.forward()
}

// start starts a program of the switch, until it is killed or the test ends.
func (s *OpenVSwitch) start(name string, args ...string) (kill func()) {
	s.Helper()
	cmd := exec.Command(name, append(args, "-vconsole:off", "--log-file="+filepath.Join(s.dir, name+".log"))...)
	cmd.Env = append(cmd.Environ(), "OVS_RUNDIR="+s.dir, "OVS_DBDIR="+s.dir)
	if err := cmd.Start(); err != nil {
		s.Fatalf("start %s: %v", name, err)
	}
	ended := false
	kill = func() {
		if !ended {
			ended = true
			_ = cmd.Process.Kill() // it may have ended by itself
			_ = cmd.Wait()         // it was killed
		}
	}
	s.Cleanup(kill)
	return kill
}

func (s *OpenVSwitch) run(name string, args ...string) string {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), switchPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(cmd.Environ(), "OVS_RUNDIR="+s.dir)
	said, err := cmd.CombinedOutput()
	if err != nil {
		s.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, said)
	}
	return strings.TrimSpace(string(said))
}

// Vsctl runs ovs-vsctl, which waits for the switch, and returns what it says.
func (s *OpenVSwitch) Vsctl(args ...string) string {
	s.Helper()
	seconds := strconv.Itoa(int(switchPatience / time.Second))
	return s.run("ovs-vsctl", append([]string{"--db=unix:" + s.Socket, "--retry", "--timeout=" + seconds}, args...)...)
}

// Bridge makes a bridge.
func (s *OpenVSwitch) Bridge(name string) {
	s.Helper()
	s.Vsctl("add-br", name, "--", "set", "bridge", name, "datapath_type=netdev")
	device, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(device)
	}
	if err != nil {
		s.Fatal(err)
	}
}

// Join plugs a host into a bridge, with eth0, as an access port of a VLAN, 0 for none.
// Neither end leaves sums to be finished, which the switch would not do.
func (s *OpenVSwitch) Join(host *lab.Host, port, bridge string, vlan uint16, address netip.Prefix) {
	s.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = port
	pair := netlink.NewVeth(attrs)
	pair.PeerName, pair.PeerNamespace = "eth0", netlink.NsFd(host.Namespace())
	if err := netlink.LinkAdd(pair); err != nil {
		s.Fatal(err)
	}
	if err := netlink.LinkSetUp(pair); err != nil {
		s.Fatal(err)
	}
	args := []string{"add-port", bridge, port}
	if vlan != 0 {
		args = append(args, fmt.Sprintf("tag=%d", vlan))
	}
	s.Vsctl(append(args, "--", "set", "port", port, "vlan_mode=access")...)
	ctx, cancel := context.WithTimeout(context.Background(), switchPatience)
	defer cancel()
	if _, err := host.Run(ctx, "ethtool", "-K", "eth0", "tx", "off"); err != nil {
		s.Fatal(err)
	}
	for _, err := range []error{host.AddAddress("eth0", address), host.SetUp("eth0")} {
		if err != nil {
			s.Fatal(err)
		}
	}
}
