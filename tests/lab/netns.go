package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// netnsDir is where `ip netns` keeps its names.
const netnsDir = "/run/netns"

// validName keeps names out of trouble as file names and as arguments.
var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// onThread calls fn on a thread of its own that has first entered the network
// namespace ns (or stays where it is, for -1) and ends afterwards, so that nothing
// fn did to it can reach other goroutines.
func onThread(ns int, fn func() error) error {
	result := make(chan error, 1)
	go func() {
		err := errors.New("the function did not return") // for runtime.Goexit
		defer func() { result <- err }()
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and is what others see as the process's
			// namespace. While this goroutine holds it, the next one gets another.
			err = onThread(ns, fn)
			runtime.UnlockOSThread()
			return
		}
		if ns >= 0 {
			if e := unix.Setns(ns, unix.CLONE_NEWNET); e != nil {
				err = fmt.Errorf("enter network namespace: %w", e)
				return
			}
		}
		err = fn()
	}()
	return <-result
}

// Within calls fn as Host.Do does, in a named network namespace that need not be a
// host of this process.
func Within(name string, fn func() error) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("enter namespace: %q is no valid name", name)
	}
	fd, err := unix.Open(filepath.Join(netnsDir, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", name, err)
	}
	defer func() { _ = unix.Close(fd) }()
	return onThread(fd, fn)
}

// addNamespace makes a network namespace with a name, as `ip netns add` does, and
// returns a descriptor of it.
func addNamespace(name string) (fd int, err error) {
	if !validName.MatchString(name) {
		return -1, fmt.Errorf("add namespace: %q is no valid name", name)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("add namespace %s: %w", name, err)
		}
	}()
	if err := prepareNetnsDir(); err != nil {
		return -1, err
	}
	path := filepath.Join(netnsDir, name)
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return -1, err
	}
	if err := f.Close(); err != nil {
		return -1, errors.Join(err, os.Remove(path))
	}
	err = onThread(-1, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
	})
	if err != nil {
		return -1, errors.Join(err, os.Remove(path))
	}
	fd, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, errors.Join(err, removeNamespace(name))
	}
	return fd, nil
}

// prepareNetnsDir makes netnsDir a shared mount, so that a namespace's removal is
// seen in every mount namespace that holds a copy and does not keep it alive.
func prepareNetnsDir() error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", netnsDir, "", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // not a mount point yet
		if err := unix.Mount(netnsDir, netnsDir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("mount %s: %w", netnsDir, err)
		}
		err = unix.Mount("", netnsDir, "", unix.MS_SHARED|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("share %s: %w", netnsDir, err)
	}
	return nil
}

// removeNamespace takes the name away; the namespace ends with its last user. A
// name that does not exist is fine.
func removeNamespace(name string) error {
	path := filepath.Join(netnsDir, name)
	err := unix.Unmount(path, unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove namespace %s: %w", name, err)
	}
	return nil
}

// Namespaces lists the named network namespaces that start with prefix, sorted.
func Namespaces(prefix string) ([]string, error) {
	entries, err := os.ReadDir(netnsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Remove ends a named network namespace that an earlier process left standing: it
// kills the processes in it, deletes its devices and takes its name away. A name
// that does not exist is fine.
func Remove(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("remove namespace: %q is no valid name", name)
	}
	fd, err := unix.Open(filepath.Join(netnsDir, name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open namespace %s: %w", name, err)
	}
	defer func() { _ = unix.Close(fd) }()
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err == nil && fs.Type != unix.NSFS_MAGIC {
		return removeNamespace(name) // its maker died before the namespace was there
	}
	_, killed := killInside(fd)
	return errors.Join(killed, deleteLinks(fd), removeNamespace(name))
}
