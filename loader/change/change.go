// Package change is the one gate through which loader and loader/router change the state
// of the kernel or of the file system, one step at a time.
package change

import (
	"context"
	"fmt"
)

// Steps is asked before every single change. The zero value lets all of them happen.
type Steps struct {
	// Fault, in tests, makes a step fail.
	Fault func(step string) error
}

// dryRun marks a context whose operations only look.
type dryRun struct{}

// DryRun returns a context with which the first change that an operation would make ends
// it with Drift.
func DryRun(ctx context.Context) context.Context { return context.WithValue(ctx, dryRun{}, true) }

// IsDryRun tells whether the context is one.
func IsDryRun(ctx context.Context) bool { return ctx.Value(dryRun{}) != nil }

// Drift says what is not as wanted, by the change that would mend it.
type Drift struct{ Change string }

func (e Drift) Error() string { return "not as wanted: " + e.Change }

// Step is called before a change. Here operations end when nobody waits for them any more,
// here a dry run ends, and here tests let them fail.
func (s Steps) Step(ctx context.Context, change string) error {
	if IsDryRun(ctx) {
		return Drift{change}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", change, err)
	}
	if s.Fault != nil {
		return s.Fault(change)
	}
	return nil
}

// Undo takes back what a failed operation has begun. It asks nobody but the tests, to which
// it is a step like the others.
func (s Steps) Undo(fn func() error) error {
	if s.Fault != nil {
		if err := s.Fault("undo"); err != nil {
			return err
		}
	}
	return fn()
}
