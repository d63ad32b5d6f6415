package lab_test

import (
	"context"
	"os"
	"testing"
	"time"

	"qlbaas/tests/lab"
)

func TestMain(m *testing.M) {
	os.Exit(lab.Enter(func() int {
		if part := os.Getenv(partVar); part != "" {
			return play(part)
		}
		return m.Run()
	}))
}

// patience bounds what has to happen but has no time set for it.
const patience = 20 * time.Second

// within is a context for one test's steps.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
