// Package l7 is the sidecar of pools with cookie persistence.
package l7
