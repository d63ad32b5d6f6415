package router

import (
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"qlbaas/maps"
)

// Everything of a router is named after it, as everything of a pool is.
const (
	namespacePrefix = "qrouter-"
	insidePrefix    = "qr-"
	externalPrefix  = "qg-"
	outsidePrefix   = "tap"
	aliasPrefix     = "qlbaas router "
	// portDigits is how much of a port's UUID goes into a device's name.
	portDigits = 11
)

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func isUUID(s string) bool { return uuidPattern.MatchString(s) }

func namespaceName(id string) string { return namespacePrefix + id }

// insideName is the leg's device in the router's namespace.
func (l *leg) insideName() string {
	if l.external {
		return externalPrefix + l.PortID[:portDigits]
	}
	return insidePrefix + l.PortID[:portDigits]
}

// outsideName is the device on the bridge.
func (l *leg) outsideName() string { return outsidePrefix + l.PortID[:portDigits] }

func deviceAlias(id string) string { return aliasPrefix + id }

// routerAfter returns the router's id behind a prefix, or "".
func routerAfter(s, prefix string) string {
	if id, ok := strings.CutPrefix(s, prefix); ok && isUUID(id) {
		return id
	}
	return ""
}

func routersDir(bpffs string) string { return filepath.Join(bpffs, "routers") }

func pinsDir(bpffs, id string) string {
	return filepath.Join(routersDir(bpffs), id, "v"+strconv.Itoa(maps.RouterLayout))
}
