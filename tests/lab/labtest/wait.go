package labtest

import (
	"testing"
	"time"
)

// What cannot be waited for is looked at this often at first, and less and less
// often: most things happen soon, and what takes long need not be met to the instant.
const (
	pollFirst = 2 * time.Millisecond
	pollLast  = 50 * time.Millisecond
)

// Until looks again and again until check returns nil. When that has not happened
// within bound, the test ends with what check said last. It returns how long it took.
func Until(t testing.TB, bound time.Duration, check func() error) time.Duration {
	t.Helper()
	took, err := Eventually(bound, check)
	if err != nil {
		t.Fatalf("after %s: %v", bound, err)
	}
	return took
}

// Eventually is Until for those who go on after a failure.
func Eventually(bound time.Duration, check func() error) (time.Duration, error) {
	start, pause := time.Now(), pollFirst
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		err := check()
		took := time.Since(start)
		if err == nil || took > bound {
			return took, err
		}
		<-timer.C
		pause = min(pause+pause/4, pollLast)
		timer.Reset(pause)
	}
}
