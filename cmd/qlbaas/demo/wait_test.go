package demo

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	broken := errors.New("broken")
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := until(t.Context(), time.Second, func() error {
			if time.Since(began) < 300*time.Millisecond {
				return broken
			}
			return nil
		})
		if err != nil || time.Since(began) > 310*time.Millisecond {
			t.Errorf("what comes true after 300 ms: %v after %s", err, time.Since(began))
		}
		began = time.Now()
		if err := until(t.Context(), time.Second, func() error { return broken }); !errors.Is(err, broken) || time.Since(began) < time.Second {
			t.Errorf("what never comes true: %v after %s", err, time.Since(began))
		}
		began = time.Now()
		if err := until(t.Context(), time.Second, func() error { return fatal(broken) }); !errors.Is(err, broken) || time.Since(began) > 0 {
			t.Errorf("what cannot come true: %v after %s", err, time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := until(ctx, time.Second, func() error { cancel(); return broken }); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted: %v", err)
		}
	})
}
