// Package netspace makes, names, enters and removes network namespaces.
package netspace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"qlbaas/loader/change"
	"qlbaas/loader/rtnl"
)

// Dir is where `ip netns` keeps the names of network namespaces.
const Dir = "/run/netns"

// Namespace is an open network namespace. The open file, not the name, is its
// identity: a name can be deleted or given to another namespace while the file
// keeps this one, its devices and its traffic alive.
type Namespace struct {
	Name string
	File *os.File
	// Routes configures links, addresses, routes, neighbours and filters inside.
	Routes *netlink.Handle
}

// Path is where the namespace of that name is mounted.
func Path(name string) string { return filepath.Join(Dir, name) }

// Do runs fn inside.
func (ns *Namespace) Do(fn func() error) error { return Inside(ns.File, fn) }

// Close lets go of the namespace, which lives on under its name.
func (ns *Namespace) Close() error {
	ns.Routes.Close()
	return ns.File.Close()
}

// Named tells whether the name still leads here.
func (ns *Namespace) Named() bool {
	var own, found unix.Stat_t
	if err := unix.Fstat(int(ns.File.Fd()), &own); err != nil {
		return false
	}
	if err := unix.Stat(Path(ns.Name), &found); err != nil {
		return false
	}
	return own.Dev == found.Dev && own.Ino == found.Ino
}

// ErrNone says that a name leads to no network namespace.
var ErrNone = errors.New("not a network namespace")

// Open opens a named network namespace. The error is ErrNone for
// a name that somebody began to make, fs.ErrNotExist for one that is not there.
func Open(name string) (*Namespace, error) {
	file, err := os.Open(Path(name))
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	if err := checkNamespace(file); err != nil {
		file.Close()
		return nil, err
	}
	ns := &Namespace{Name: name, File: file}
	err = ns.Do(func() (err error) {
		ns.Routes, err = rtnl.Open()
		return err
	})
	if err != nil {
		file.Close()
		return nil, err
	}
	return ns, nil
}

// checkNamespace returns ErrNone unless file is a network namespace.
func checkNamespace(file *os.File) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &st); err != nil {
		return fmt.Errorf("look at the file system of %s: %w", file.Name(), err)
	}
	if st.Type != unix.NSFS_MAGIC {
		return fmt.Errorf("%s: %w", file.Name(), ErrNone)
	}
	kind, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE)
	if err != nil {
		return fmt.Errorf("ask for the type of namespace %s: %w", file.Name(), err)
	}
	if kind != unix.CLONE_NEWNET {
		return fmt.Errorf("%s: %w", file.Name(), ErrNone)
	}
	return nil
}

// Ensure opens the namespace of that name and makes it if it is not there. What is
// found under the name without being a namespace was half made by a daemon that died,
// and is made anew.
func Ensure(ctx context.Context, steps change.Steps, name string) (*Namespace, error) {
	ns, err := Open(name)
	if errors.Is(err, ErrNone) {
		if err := Remove(ctx, steps, name); err != nil {
			return nil, err
		}
	}
	if errors.Is(err, ErrNone) || errors.Is(err, fs.ErrNotExist) {
		if err := Make(ctx, steps, name); err != nil {
			return nil, err
		}
		ns, err = Open(name)
	}
	return ns, err
}

// Rename gives a namespace that lost its name (`ip netns del`) the name
// back. Nothing inside has noticed, so no connection breaks; a namespace that was
// made under the name meanwhile is pushed aside.
func (ns *Namespace) Rename(ctx context.Context, steps change.Steps) error {
	if ns.Named() {
		return nil
	}
	if err := Remove(ctx, steps, ns.Name); err != nil {
		return err
	}
	return mount(ctx, steps, ns.Name, fmt.Sprintf("/proc/self/fd/%d", ns.File.Fd()))
}

// Make makes a new namespace with a name, as `ip netns add` does.
func Make(ctx context.Context, steps change.Steps, name string) error {
	return onThread(func() error {
		if err := steps.Step(ctx, "make network namespace"); err != nil {
			return err
		}
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make network namespace: %w", err)
		}
		return mount(ctx, steps, name, ThreadPath)
	})
}

// mount mounts the namespace that source leads to under a new name.
func mount(ctx context.Context, steps change.Steps, name, source string) error {
	if err := steps.Step(ctx, "make file for network namespace"); err != nil {
		return err
	}
	if err := shareDir(); err != nil {
		return err
	}
	path := Path(name)
	file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return fmt.Errorf("make file for network namespace: %w", err)
	}
	file.Close()
	err = steps.Step(ctx, "name network namespace")
	if err == nil {
		if err = unix.Mount(source, path, "none", unix.MS_BIND, ""); err != nil {
			err = fmt.Errorf("name network namespace %s: %w", name, err)
		}
	}
	if err != nil {
		return errors.Join(err, steps.Undo(func() error { return os.Remove(path) }))
	}
	return nil
}

// sharing is held while the directory becomes a mount. It is the process's, as the
// directory is.
var sharing sync.Mutex

// shareDir makes the directory a mount whose mounts and unmounts reach
// the other mount namespaces of the machine, as `ip netns add` does. Without that
// a namespace deleted by an operator would live on in each service that has a
// mount namespace of its own.
func shareDir() error {
	// Two at once would mount it twice, and names would hide below the second.
	sharing.Lock()
	defer sharing.Unlock()
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return fmt.Errorf("make directory for network namespaces: %w", err)
	}
	share := func() error {
		return unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	}
	err := share()
	if errors.Is(err, unix.EINVAL) { // not a mount yet
		if err := unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", Dir, err)
		}
		err = share()
	}
	if err != nil {
		return fmt.Errorf("share mounts of %s: %w", Dir, err)
	}
	return nil
}

// Remove takes the name away, and with it the namespace unless something
// else holds it. A name that is not there is no error.
func Remove(ctx context.Context, steps change.Steps, name string) error {
	path := Path(name)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := steps.Step(ctx, "unmount network namespace"); err != nil {
		return err
	}
	// EINVAL: nothing is mounted there, the namespace was half made.
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount network namespace %s: %w", name, err)
	}
	if err := steps.Step(ctx, "remove file of network namespace"); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove file of network namespace: %w", err)
	}
	return nil
}

// Names lists the names of namespaces, or of the beginnings of one.
func Names() ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// Socket opens a non-blocking socket that belongs to the namespace.
func (ns *Namespace) Socket(domain, typ, proto int) (fd int, err error) {
	err = ns.Do(func() error {
		fd, err = unix.Socket(domain, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("open socket in %s: %w", ns.Name, err)
	}
	return fd, nil
}
