package bubble

import (
	"testing"
	"testing/synctest"
	"time"
)

// What is due has happened when time has passed, and nothing else has.
func TestPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var due, later bool
		time.AfterFunc(time.Hour, func() { due = true })
		time.AfterFunc(time.Hour+1, func() { later = true })
		Pass(time.Hour)
		if !due || later || time.Since(began) != time.Hour {
			t.Errorf("after %v: due %v, later %v", time.Since(began), due, later)
		}
	})
}

// Where time is real it must not be waited for.
func TestOutside(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a test may wait for the real clock")
		}
	}()
	Pass(time.Hour)
}
