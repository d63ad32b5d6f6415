//go:build race

package l7_test

// The race detector keeps a shadow of all memory.
func init() { shadow = 8 }
