package loader

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// namespaceDir is where `ip netns` keeps the names of network namespaces.
const namespaceDir = "/run/netns"

// netlinkTimeout bounds every wait for an answer of the kernel.
const netlinkTimeout = 5 * time.Second

// namespace is a pool's network namespace. The open file, not the name, is its
// identity: a name can be deleted or given to another namespace while the file
// keeps this one, its devices and its traffic alive.
type namespace struct {
	name string
	file *os.File
	// routes configures links, addresses, routes, neighbours and filters inside.
	routes *netlink.Handle
}

func namespacePath(name string) string { return filepath.Join(namespaceDir, name) }

// do runs fn inside.
func (ns *namespace) do(fn func() error) error { return inNamespace(ns.file, fn) }

func (ns *namespace) Close() error {
	ns.routes.Close()
	return ns.file.Close()
}

// named tells whether the name still leads here.
func (ns *namespace) named() bool {
	var own, found unix.Stat_t
	if err := unix.Fstat(int(ns.file.Fd()), &own); err != nil {
		return false
	}
	if err := unix.Stat(namespacePath(ns.name), &found); err != nil {
		return false
	}
	return own.Dev == found.Dev && own.Ino == found.Ino
}

// errNoNamespace says that a name leads to no network namespace.
var errNoNamespace = errors.New("not a network namespace")

// openNamespace opens a named network namespace. The error is errNoNamespace for
// a name that somebody began to make, fs.ErrNotExist for one that is not there.
func openNamespace(name string) (*namespace, error) {
	file, err := os.Open(namespacePath(name))
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	if err := checkNamespace(file); err != nil {
		file.Close()
		return nil, err
	}
	ns := &namespace{name: name, file: file}
	err = ns.do(func() (err error) {
		ns.routes, err = newRoutes()
		return err
	})
	if err != nil {
		file.Close()
		return nil, err
	}
	return ns, nil
}

// newRoutes opens route netlink in the calling thread's namespace.
func newRoutes() (*netlink.Handle, error) {
	routes, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if err := routes.SetSocketTimeout(netlinkTimeout); err != nil {
		routes.Close()
		return nil, fmt.Errorf("bound netlink: %w", err)
	}
	return routes, nil
}

// checkNamespace returns errNoNamespace unless file is a network namespace.
func checkNamespace(file *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &st); err != nil {
		return fmt.Errorf("look at the file system of %s: %w", file.Name(), err)
	}
	if st.Type != unix.NSFS_MAGIC {
		return fmt.Errorf("%s: %w", file.Name(), errNoNamespace)
	}
	kind, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE)
	if err != nil {
		return fmt.Errorf("ask for the type of namespace %s: %w", file.Name(), err)
	}
	if kind != unix.CLONE_NEWNET {
		return fmt.Errorf("%s: %w", file.Name(), errNoNamespace)
	}
	return nil
}

// ensureNamespace opens the pool's namespace and makes it if it is not there.
// What is found under the name without being a namespace was half made by a
// daemon that died, and is made anew.
func (n *Node) ensureNamespace(ctx context.Context, p *pool) error {
	if p.ns != nil {
		return n.renameNamespace(ctx, p.ns)
	}
	name := namespaceName(p.id)
	ns, err := openNamespace(name)
	if errors.Is(err, errNoNamespace) {
		if err := n.removeNamespace(ctx, name); err != nil {
			return err
		}
	}
	if errors.Is(err, errNoNamespace) || errors.Is(err, fs.ErrNotExist) {
		if err := n.makeNamespace(ctx, name); err != nil {
			return err
		}
		ns, err = openNamespace(name)
	}
	if err != nil {
		return err
	}
	p.setNamespace(ns)
	return nil
}

func (p *pool) setNamespace(ns *namespace) {
	p.data.Lock()
	defer p.data.Unlock()
	p.ns = ns
}

// renameNamespace gives a namespace that lost its name (`ip netns del`) the name
// back. Nothing inside has noticed, so no connection breaks; a namespace that was
// made under the name meanwhile is pushed aside.
func (n *Node) renameNamespace(ctx context.Context, ns *namespace) error {
	if ns.named() {
		return nil
	}
	if err := n.removeNamespace(ctx, ns.name); err != nil {
		return err
	}
	return n.nameNamespace(ctx, ns.name, fmt.Sprintf("/proc/self/fd/%d", ns.file.Fd()))
}

// makeNamespace makes a new namespace with a name, as `ip netns add` does.
func (n *Node) makeNamespace(ctx context.Context, name string) error {
	return onThread(func() error {
		if err := n.step(ctx, "make network namespace"); err != nil {
			return err
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		return n.nameNamespace(ctx, name, threadNamespace)
	})
}

// nameNamespace mounts the namespace that source leads to under a new name.
func (n *Node) nameNamespace(ctx context.Context, name, source string) error {
	if err := n.step(ctx, "make file for network namespace"); err != nil {
		return err
	}
	if err := n.shareNamespaceDir(); err != nil {
		return err
	}
	path := namespacePath(name)
	file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("make file for network namespace: %w", err)
	}
	file.Close()
	err = n.step(ctx, "name network namespace")
	if err == nil {
		if err = unix.Mount(source, path, "none", unix.MS_BIND, ""); err != nil {
			err = fmt.Errorf("name network namespace %s: %w", name, err)
		}
	}
	if err != nil {
		return errors.Join(err, n.undo(func() error { return os.Remove(path) }))
	}
	return nil
}

// shareNamespaceDir makes the directory a mount whose mounts and unmounts reach
// the other mount namespaces of the machine, as `ip netns add` does. Without that
// a namespace deleted by an operator would live on in each service that has a
// mount namespace of its own.
func (n *Node) shareNamespaceDir() error {
	// Two at once would mount it twice, and names would hide below the second.
	n.namesMu.Lock()
	defer n.namesMu.Unlock()
	if err := os.MkdirAll(namespaceDir, 0o755); err != nil {
		return fmt.Errorf("make directory for network namespaces: %w", err)
	}
	share := func() error {
		return unix.Mount("", namespaceDir, "none", unix.MS_SHARED|unix.MS_REC, "")
	}
	err := share()
	if errors.Is(err, unix.EINVAL) { // not a mount yet
		if err := unix.Mount(namespaceDir, namespaceDir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", namespaceDir, err)
		}
		err = share()
	}
	if err != nil {
		return fmt.Errorf("share mounts of %s: %w", namespaceDir, err)
	}
	return nil
}

// removeNamespace takes the name away, and with it the namespace unless something
// else holds it. A name that is not there is no error.
func (n *Node) removeNamespace(ctx context.Context, name string) error {
	path := namespacePath(name)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := n.step(ctx, "unmount network namespace"); err != nil {
		return err
	}
	// EINVAL: nothing is mounted there, the namespace was half made.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount network namespace %s: %w", name, err)
	}
	if err := n.step(ctx, "remove file of network namespace"); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove file of network namespace: %w", err)
	}
	return nil
}

// namespacePools lists the pools that have a namespace, or the beginning of one.
func namespacePools() ([]string, error) {
	entries, err := os.ReadDir(namespaceDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id := poolOfNamespace(e.Name()); id != "" {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
