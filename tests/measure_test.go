package tests

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// scaleVar, set to anything, makes a test as large as the scoreboard wants it.
const scaleVar = "QLBAAS_SCALE"

// scaled is a number for everyday, or that of the scoreboard.
func scaled[N any](small, large N) N {
	if os.Getenv(scaleVar) != "" {
		return large
	}
	return small
}

// numbers are what a test has measured, for the scoreboard.
type numbers map[string]any

// report says what was measured.
func report(t testing.TB, n numbers) {
	t.Helper()
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("scoreboard: %s", text)
}

// seedVar holds the seed of all chance; the scoreboard sets it.
const seedVar = "QLBAAS_SEED"

// seed is where a test's chance comes from.
func seed(t testing.TB) uint64 {
	t.Helper()
	text := os.Getenv(seedVar)
	if text == "" {
		text = fmt.Sprintf("%#x", rand.Uint64())
	}
	n, err := strconv.ParseUint(text, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %#x", n)
	return n
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
