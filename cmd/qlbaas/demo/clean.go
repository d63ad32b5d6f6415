package demo

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// clean removes everything that a demo at p has made, finished or not, and reports
// whether there was anything. Its last step removes the directory that says so, and
// no step minds what is gone already: it can be called again.
func clean(p place) (found bool, err error) {
	if _, err := os.Lstat(p.dir); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	pools, err := poolsOf(p)
	routers, routersErr := named(p.routers, filepath.Join(p.bpffs, "routers"))
	errs := []error{err, routersErr}
	// The hosts first: with demo-node ends the agent, which would mend the rest.
	for _, host := range hosts() {
		errs = append(errs, lab.Remove(host))
	}
	for _, id := range pools {
		errs = append(errs, lab.Remove(poolNamespace(id)))
	}
	for _, id := range routers {
		errs = append(errs, lab.Remove(routerNamespace(id)))
	}
	errs = append(errs, unmountBelow(p.dir))
	if err := errors.Join(errs...); err != nil {
		return true, fmt.Errorf("clean up: %w", err)
	}
	if err := os.RemoveAll(p.dir); err != nil {
		return true, fmt.Errorf("clean up: %w", err)
	}
	return true, nil
}

func poolNamespace(id string) string { return "qlbaas-" + id }

func routerNamespace(id string) string { return "qrouter-" + id }

// uuid keeps every other name, and so every other namespace, out of clean's hands.
var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// poolsOf finds the pools whose namespaces are the demo's: those that it has noted,
// and those that somebody else has made in a demo left standing, by their pins,
// their configurations and the devices on the node.
func poolsOf(p place) ([]string, error) {
	pools, found := named(p.pools, filepath.Join(p.bpffs, "pools"), filepath.Join(p.state, "pools"))
	errs := []error{found}
	err := lab.Within(nodeHost, func() error {
		devices, err := netlink.LinkList()
		for _, d := range devices {
			pools = append(pools, strings.TrimPrefix(d.Attrs().Alias, "qlbaas pool "))
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("list devices of %s: %w", nodeHost, err))
	}
	return onlyIDs(pools), errors.Join(errs...)
}

// named are the ids that name something in one of the directories.
func named(dirs ...string) (ids []string, _ error) {
	var errs []error
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("list what is left: %w", err))
		}
		for _, e := range entries {
			ids = append(ids, e.Name())
		}
	}
	return onlyIDs(ids), errors.Join(errs...)
}

func onlyIDs(names []string) []string {
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(s string) bool { return !uuid.MatchString(s) })
}

// unmountBelow unmounts every file system in dir, and with a bpffs ends its pins.
func unmountBelow(dir string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	defer f.Close()
	var mounted []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// 36 35 0:32 / /run/qlbaas-demo/bpf rw,nosuid … : the fifth word is where.
		words := strings.Fields(lines.Text())
		if len(words) > 4 && strings.HasPrefix(words[4], dir+"/") {
			mounted = append(mounted, words[4])
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	for _, path := range slices.Backward(mounted) {
		// EINVAL: another mount hides it, so that it is not in dir at all.
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	return nil
}
