package loader

import (
	"fmt"
	"regexp"
	"strings"

	"qlbaas/loader/netspace"
)

// Everything of a pool is named after it, so that whatever a dead daemon has left
// can be told from what is not ours by its name alone.
const (
	namespacePrefix = "qlbaas-"
	insidePrefix    = "ns-"
	outsidePrefix   = "tap"
	// aliasPrefix begins the outside device's alias; its name says the port only.
	aliasPrefix = "qlbaas pool "
	// portDigits is how much of a port's UUID goes into a device's name, which the
	// kernel limits to 15 characters.
	portDigits = 11
)

// Names are built from identifiers and end in paths and in the kernel, so nothing
// but a UUID in its canonical form is let in.
var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func isUUID(s string) bool { return uuidPattern.MatchString(s) }

// checkPoolID is for the operations that take an id from outside.
func checkPoolID(id string) error {
	if !isUUID(id) {
		return fmt.Errorf("pool id %q is not a UUID: %w", id, ErrInvalid)
	}
	return nil
}

func namespaceName(poolID string) string { return namespacePrefix + poolID }

// insideName is the device in the pool's namespace; portID must be a UUID.
func insideName(portID string) string { return insidePrefix + portID[:portDigits] }

// outsideName is the device on the bridge; portID must be a UUID.
func outsideName(portID string) string { return outsidePrefix + portID[:portDigits] }

func deviceAlias(poolID string) string { return aliasPrefix + poolID }

// poolOfNamespace returns the pool whose namespace has this name, or "".
func poolOfNamespace(name string) string { return poolAfter(name, namespacePrefix) }

// poolOfAlias returns the pool whose outside device has this alias, or "".
func poolOfAlias(alias string) string { return poolAfter(alias, aliasPrefix) }

func poolAfter(s, prefix string) string {
	if id, ok := strings.CutPrefix(s, prefix); ok && isUUID(id) {
		return id
	}
	return ""
}

// namespacePools lists the pools that have a namespace, or the beginning of one.
func namespacePools() ([]string, error) {
	names, err := netspace.Names()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, name := range names {
		if id := poolOfNamespace(name); id != "" {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
