// Package bubble lets tests move the fake clock of testing/synctest. Nothing in it waits for
// a real clock.
package bubble

import (
	"testing/synctest"
	"time"
)

// Pass lets d pass on the bubble's clock, with all that happens meanwhile and is due by then.
// It panics outside of a bubble, where it would be a wait for nothing in particular. One
// goroutine of a bubble calls it at a time.
func Pass(d time.Duration) {
	synctest.Wait() // panics where time is real
	<-time.After(d)
	synctest.Wait()
}
