package cmdline

import (
	"errors"
	"fmt"
)

// The exit codes of the process.
const (
	ExitDone     = 0
	ExitRefused  = 1
	ExitUsage    = 2
	ExitNoServer = 3
)

// Coder is an error that chooses the process's exit code.
type Coder interface {
	error
	ExitCode() int
}

// usageError is a call that cannot be understood; nothing was done.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }
func (e *usageError) ExitCode() int { return ExitUsage }

// Usagef returns an error about the call itself: ExitCode gives ExitUsage.
func Usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// ExitCode maps an error to the process's exit code: 0 for nil, the code of the
// first Coder in its chain, else ExitRefused.
func ExitCode(err error) int {
	if err == nil {
		return ExitDone
	}
	var c Coder
	if errors.As(err, &c) {
		return c.ExitCode()
	}
	return ExitRefused
}
