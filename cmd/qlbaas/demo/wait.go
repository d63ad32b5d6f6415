package demo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// patience bounds what has to happen but has no time promised for it.
const patience = 10 * time.Second

// fatalError ends until before its time.
type fatalError struct{ error }

func (e fatalError) Unwrap() error { return e.error }

// fatal marks an error that waiting cannot mend.
func fatal(err error) error { return fatalError{err} }

// until calls check every few milliseconds until it returns nil, and returns its
// last error when bound is over, ctx ends or the error is fatal.
func until(ctx context.Context, bound time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil || errors.As(err, &fatalError{}) {
			return err
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("after %s: %w", bound, err)
			}
			return errors.Join(ctx.Err(), err)
		case <-ticker.C:
		}
	}
}

// pause keeps a client from taking the processor for itself.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
