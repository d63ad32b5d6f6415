package tests

import (
	"context"
	"testing"
	"time"

	"qlbaas/tests/lab/labtest"
)

// patience bounds what has to happen but has no time promised for it.
const patience = 20 * time.Second

// bounded is a context for steps that shall take no longer than bound.
func bounded(t testing.TB, bound time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	t.Cleanup(cancel)
	return ctx
}

// until looks again and again until check returns nil, see labtest.Until.
func until(t testing.TB, bound time.Duration, check func() error) time.Duration {
	t.Helper()
	return labtest.Until(t, bound, check)
}
