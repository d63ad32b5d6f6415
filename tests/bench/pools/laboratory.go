package pools

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"

	"qlbaas/tests/lab"
)

// webPort is that of members and VIPs.
const webPort = 80

// subnet has room for all VIPs, and for the peers.
var subnet = netip.MustParsePrefix("172.16.0.0/16")

// vip is the n-th pool's address.
func vip(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 16, byte(1 + n/200), byte(10 + n%200)})
}

// build makes client, router, node and two members that answer.
func (b *bench) build(l *lab.Lab) (err error) {
	// The private world's /run: short, for a socket's path has 107 bytes at most.
	if b.dir, err = os.MkdirTemp("/run", "pools"); err != nil {
		return err
	}
	if b.Tutorial, err = lab.NewTutorial(l, lab.TutorialOptions{Subnet: subnet}); err != nil {
		return err
	}
	b.client = &visitor{host: b.Client}
	_, err = b.StartWebs(webPort)
	return err
}

// endpoints are the members'.
func (b *bench) endpoints() (all []netip.AddrPort) {
	for _, m := range b.Members {
		all = append(all, netip.AddrPortFrom(m.Address, webPort))
	}
	return all
}

// binaryVar names the binary to measure; unset, one is built.
const binaryVar = "QLBAAS_BIN"

// binary builds the product, from what is in the cache: there is no network here.
func (b *bench) binary() (string, error) {
	if path := os.Getenv(binaryVar); path != "" {
		return filepath.Abs(path)
	}
	path := filepath.Join(b.dir, "qlbaas")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "qlbaas/cmd/qlbaas")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the agent: %w: %s", err, out)
	}
	return path, nil
}
