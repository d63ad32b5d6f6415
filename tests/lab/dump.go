package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of a dump: one that hangs or drowns the log helps nobody.
const (
	dumpTimeout = 10 * time.Second // for one command
	dumpLines   = 200              // of one command
)

// Dump prints everything that explains why a test failed: for each namespace its
// devices, addresses, routes, neighbours, sockets, filters and nftables rules; the
// captured frames; the content of every pinned BPF map. In the private world that
// is all there is; on the machine itself only the lab's own hosts, and no pins.
// What cannot be printed is said in its place.
func (l *Lab) Dump(ctx context.Context, w io.Writer) {
	names := l.Names()
	if !l.options.OnMachine {
		if all, err := Namespaces(""); err == nil {
			names = all
		}
	}
	for _, name := range names {
		dumpNamespace(ctx, w, name)
	}
	l.mu.Lock()
	captures := append([]*Capture(nil), l.captures...)
	l.mu.Unlock()
	for _, c := range captures {
		c.write(w)
	}
	if !l.options.OnMachine {
		dumpPins(ctx, w, bpffs)
	}
}

func dumpNamespace(ctx context.Context, w io.Writer, name string) {
	ns, err := unix.Open(filepath.Join(netnsDir, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		fmt.Fprintf(w, "\n=== namespace %s: %v\n", name, err)
		return
	}
	defer func() { _ = unix.Close(ns) }()
	fmt.Fprintf(w, "\n=== namespace %s\n", name)
	for _, command := range []string{
		"ip -d -s link", "ip addr", "ip route show table all", "ip neigh", "ss -Htuan",
		"bpftool net", "nft list ruleset",
	} {
		dumpCommand(ctx, w, ns, command)
	}
}

// dumpCommand prints a command (words separated by blanks) and its output.
func dumpCommand(ctx context.Context, w io.Writer, ns int, command string) {
	ctx, cancel := context.WithTimeout(ctx, dumpTimeout)
	defer cancel()
	words := strings.Fields(command)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	var out []byte
	err := onThread(ns, func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	text := strings.TrimSpace(string(out))
	if text == "" && err == nil {
		return
	}
	lines := strings.Split(text, "\n")
	if more := len(lines) - dumpLines; more > 0 {
		lines = append(lines[:dumpLines], fmt.Sprintf("… %d more lines", more))
	}
	fmt.Fprintf(w, "--- %s\n%s\n", command, strings.Join(lines, "\n"))
	if err != nil {
		fmt.Fprintln(w, err)
	}
}

// dumpPins prints every map pinned below dir, and names the other pins.
func dumpPins(ctx context.Context, w io.Writer, dir string) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			fmt.Fprintf(w, "\n=== %s: %v\n", path, err)
		case err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, ".debug"):
			// The kernel itself puts maps.debug and progs.debug into every bpffs.
		case filepath.Base(filepath.Dir(path)) == "maps":
			fmt.Fprintf(w, "\n=== pinned map %s\n", path)
			dumpCommand(ctx, w, -1, "bpftool map dump pinned "+path)
		default:
			fmt.Fprintf(w, "\n=== pin %s\n", path)
		}
		return nil
	})
	if err != nil {
		fmt.Fprintf(w, "\n=== %s: %v\n", dir, err)
	}
}
