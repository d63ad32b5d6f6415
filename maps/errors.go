package maps

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotFound: there is no such entry, slot or generation.
	ErrNotFound = errors.New("not found")
	// ErrExists: the entry is there already and is left as it is.
	ErrExists = errors.New("exists already")
	// ErrFull: the map has no room left, or the kernel no memory for it.
	ErrFull = errors.New("map is full")
	// ErrInvalid: the value contradicts itself or cannot be stored; the text names
	// the field. Nothing was written.
	ErrInvalid = errors.New("invalid value")
)

// wrap says what was being done and which of this package's errors it came to; the
// kernel's own error stays in the chain.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	doing := fmt.Sprintf(format, args...)
	for _, known := range []struct{ kernel, ours error }{
		{ebpf.ErrKeyNotExist, ErrNotFound},
		{ebpf.ErrKeyExist, ErrExists},
		{unix.E2BIG, ErrFull},
		{unix.ENOMEM, ErrFull},
		{unix.ENOSPC, ErrFull},
	} {
		if errors.Is(err, known.kernel) && !errors.Is(err, known.ours) {
			return fmt.Errorf("%s: %w: %w", doing, known.ours, err)
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), ErrInvalid)
}
