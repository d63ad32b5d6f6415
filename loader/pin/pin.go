// Package pin keeps BPF objects under names in a bpffs, so that they outlive the daemon.
package pin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	kernelpin "github.com/cilium/ebpf/pin"
	"golang.org/x/sys/unix"

	"qlbaas/loader/change"
)

// besideSuffix marks what is about to take a pin's place.
const besideSuffix = "-new"

// Pins are the pins of one pool or router, or of the node. They hold no objects: those are
// owned by whoever asks to pin them. Safe for concurrent use.
type Pins struct {
	// Dir is the directory that all of them stand in.
	Dir string

	mu sync.Mutex
	at map[string]pin
}

// pin is an object's name in bpffs.
type pin struct {
	object any
	// inode of the pin. A pin that somebody deleted and made again, even of the
	// same object, has another one.
	inode uint64
}

// New returns the pins in a directory, none of which is known yet.
func New(dir string) *Pins { return &Pins{Dir: dir, at: map[string]pin{}} }

func (p *Pins) path(name string) string { return filepath.Join(p.Dir, name) }

// Put pins an object (a map, a program or a link) under a name, over what is pinned
// there: at no moment is there nothing.
func (p *Pins) Put(name string, object any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	path := p.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make directory of pin: %w", err)
	}
	beside := path + besideSuffix
	if err := Remove(beside); err != nil {
		return err
	}
	if err := pinTo(object, beside); err != nil {
		return fmt.Errorf("pin %s: %w", name, err)
	}
	if err := os.Rename(beside, path); err != nil {
		os.Remove(beside)
		return fmt.Errorf("pin %s: %w", name, err)
	}
	return p.remember(name, object)
}

// Took notes an object that was found pinned under the name.
func (p *Pins) Took(name string, object any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.remember(name, object)
}

func (p *Pins) remember(name string, object any) error {
	inode, err := inodeOf(p.path(name))
	if err != nil {
		return fmt.Errorf("look at pin %s: %w", name, err)
	}
	p.at[name] = pin{object: object, inode: inode}
	return nil
}

// Drop removes a pin; one that is not there is no error.
func (p *Pins) Drop(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.at, name)
	return Remove(p.path(name))
}

// DropDir removes a directory of pins.
func (p *Pins) DropDir(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at := range p.at {
		if strings.HasPrefix(at, name+"/") {
			delete(p.at, at)
		}
	}
	if err := os.RemoveAll(p.path(name)); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}

// Forget lets go of all pins and leaves them where they are.
func (p *Pins) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.at)
}

// Settle ends renames that a dead daemon had begun. What stands beside a pin goes;
// where there is no pin it takes the place, because it may be all that keeps a
// program attached.
func (p *Pins) Settle() error {
	err := filepath.WalkDir(p.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, besideSuffix) {
			return err
		}
		name := strings.TrimSuffix(path, besideSuffix)
		if _, err := os.Lstat(name); err == nil {
			return Remove(path)
		}
		return os.Rename(path, name)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("settle pins: %w", err)
	}
	return nil
}

// DropAll removes everything, known or not.
func (p *Pins) DropAll() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.at)
	if err := os.RemoveAll(p.Dir); err != nil {
		return fmt.Errorf("remove pins: %w", err)
	}
	return nil
}

// Compare returns the names under which something else is pinned than what is
// wanted, or nothing, and the names whose pins nobody wants any more.
func (p *Pins) Compare(wanted map[string]any) (missing, extra []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, object := range wanted {
		known := p.at[name]
		inode, err := inodeOf(p.path(name))
		if err != nil || known.object != object || known.inode != inode {
			missing = append(missing, name)
		}
	}
	for name := range p.at {
		if _, ok := wanted[name]; !ok {
			extra = append(extra, name)
		}
	}
	return missing, extra
}

func inodeOf(path string) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return st.Ino, nil
}

// pinTo pins a duplicate of the object, because the library lets an object know
// one pin only, and takes a pin for granted that it once made.
func pinTo(object any, path string) error {
	switch o := object.(type) {
	case *ebpf.Map:
		twin, err := o.Clone()
		if err != nil {
			return err
		}
		defer twin.Close()
		return twin.Pin(path)
	case *ebpf.Program:
		twin, err := o.Clone()
		if err != nil {
			return err
		}
		defer twin.Close()
		return twin.Pin(path)
	case link.Link: // has no Clone
		twin, err := cloneLink(o)
		if err != nil {
			return err
		}
		defer twin.Close()
		return twin.Pin(path)
	default:
		return fmt.Errorf("a %T cannot be pinned", object)
	}
}

func cloneLink(l link.Link) (link.Link, error) {
	open, ok := l.(interface{ FD() int })
	if !ok {
		return nil, fmt.Errorf("a %T has no file descriptor", l)
	}
	fd, err := unix.FcntlInt(uintptr(open.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("duplicate link: %w", err)
	}
	return link.NewFromFD(fd)
}

// List returns the names in a directory of pins; none if it is not there.
func (p *Pins) List(directory string) ([]string, error) { return Names(p.path(directory)) }

// Names returns the names in a directory of a bpffs; none if it is not there.
func Names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list pins: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// Open opens the object pinned under the name. It returns false if there is
// none, or one of another kind: then a stranger has put it there, and it is to be
// pinned over.
func Open[T kernelpin.Pinner](p *Pins, name string) (object T, found bool, _ error) {
	opened, err := kernelpin.Load(p.path(name), nil)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return object, false, nil
	case err != nil:
		return object, false, fmt.Errorf("open pin: %w", err)
	}
	object, found = opened.(T)
	if !found {
		return object, false, opened.Close()
	}
	if err := p.Took(name, object); err != nil {
		opened.Close()
		return object, false, err
	}
	return object, true, nil
}

// Remove deletes one pin; a pin that is not there is no error.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove pin: %w", err)
	}
	return nil
}

// Repair makes pins again that somebody deleted, and takes away those that nobody wants.
func (p *Pins) Repair(ctx context.Context, steps change.Steps, wanted map[string]any) error {
	missing, extra := p.Compare(wanted)
	for _, name := range missing {
		if err := steps.Step(ctx, "pin "+name); err != nil {
			return err
		}
		if err := p.Put(name, wanted[name]); err != nil {
			return err
		}
	}
	for _, name := range extra {
		if err := steps.Step(ctx, "unpin "+name); err != nil {
			return err
		}
		if err := p.Drop(name); err != nil {
			return err
		}
	}
	return nil
}
