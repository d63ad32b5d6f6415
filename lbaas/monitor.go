package lbaas

import (
	"regexp"
	"strings"
)

func monitorTypes() []MonitorType {
	return []MonitorType{MonitorPing, MonitorTCP, MonitorHTTP, MonitorHTTPS}
}

// maxSeconds bounds delay and timeout. Zero is refused: a probe needs time.
const maxSeconds = 1<<31 - 1

func monitorResource() *typed[HealthMonitor] {
	return &typed[HealthMonitor]{
		desc: desc{
			collection: HealthMonitors, kind: "health_monitor", missing: errMonitorNotFound,
			attrs: []attribute{
				{name: "id"},
				{name: "tenant_id", access: inPost, kind: textKind(maxText)},
				{name: "type", access: inPost | required, kind: enumKind(monitorTypes()...)},
				{name: "delay", access: inBoth | required, kind: intKind(1, maxSeconds)},
				{name: "timeout", access: inBoth | required, kind: intKind(1, maxSeconds)},
				{name: "max_retries", access: inBoth | required, kind: intKind(1, 10)},
				{name: "http_method", access: inBoth, kind: stringKind(checkHTTPMethod), def: "GET"},
				{name: "url_path", access: inBoth, kind: stringKind(checkURLPath), def: "/"},
				{name: "expected_codes", access: inBoth, kind: stringKind(checkCodes), def: "200"},
				{name: "admin_state_up", access: inBoth, kind: boolKind(), def: true},
				{name: "pools"},
			},
		},
		records: monitorRecords(),
		object:  showMonitor,
		create:  createMonitor,
		alter:   alterMonitor,
		destroy: destroyMonitor,
	}
}

// checkHTTPMethod refuses what could not stand at the beginning of a request.
func checkHTTPMethod(attr, s string) error {
	if !isToken(s) || len(s) > 16 {
		return invalid(errBadRequest, attr, "%s is not an HTTP method of at most 16 characters", quote(s))
	}
	return nil
}

// checkURLPath refuses what could not stand in a request line as it is: the
// prober sends the path unchanged.
func checkURLPath(attr, s string) error {
	bad := func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }
	if !strings.HasPrefix(s, "/") || len(s) > maxText || strings.ContainsFunc(s, bad) {
		return invalid(errBadRequest, attr, "%s is not a path: it begins with /, has at most %d characters, and holds "+
			"no blank, no #, no control and no non-ASCII character (use %%XX)", quote(s), maxText)
	}
	return nil
}

// checkCodes takes a list of status codes or one range of them.
func checkCodes(attr, s string) error {
	list := regexp.MustCompile(`^\d{3}( *, *\d{3})*$`)
	span := regexp.MustCompile(`^\d{3}-\d{3}$`)
	switch {
	case len(s) > 64:
	case list.MatchString(s):
		return nil
	case span.MatchString(s) && s[:3] <= s[4:]:
		return nil
	}
	return invalid(errBadRequest, attr, "%s is neither a list of codes such as 200,202 nor a range such as 200-204, "+
		"of at most 64 characters", quote(s))
}

func showMonitor(v view, o *HealthMonitor) (Object, error) {
	pools := []Object{}
	for poolID := range under(v.tx, bucketAssocByMonitor, o.ID) {
		a, err := associationRecords().must(v.tx, poolID+"/"+o.ID)
		if err != nil {
			return nil, err
		}
		pools = append(pools, Object{
			"pool_id": poolID, "status": string(a.Status), "status_description": orNil(a.StatusDescription),
		})
	}
	shown := Object{
		"id": o.ID, "tenant_id": o.TenantID, "type": string(o.Type), "delay": o.Delay, "timeout": o.Timeout,
		"max_retries": o.MaxRetries, "admin_state_up": o.AdminStateUp, "pools": pools,
	}
	if o.Type == MonitorHTTP || o.Type == MonitorHTTPS {
		shown["http_method"] = o.HTTPMethod
		shown["url_path"] = o.URLPath
		shown["expected_codes"] = o.ExpectedCodes
	}
	return shown, nil
}

// apply copies what is given and checks what only makes sense together.
func (o *HealthMonitor) apply(in values) error {
	take(in, "delay", &o.Delay)
	take(in, "timeout", &o.Timeout)
	take(in, "max_retries", &o.MaxRetries)
	take(in, "http_method", &o.HTTPMethod)
	take(in, "url_path", &o.URLPath)
	take(in, "expected_codes", &o.ExpectedCodes)
	take(in, "admin_state_up", &o.AdminStateUp)
	if o.Delay < o.Timeout {
		return refuse(errDelayOrTimeout, "Delay %d must be greater than or equal to timeout %d", o.Delay, o.Timeout)
	}
	return nil
}

func createMonitor(m *change, h Header, in values) (*HealthMonitor, error) {
	o := &HealthMonitor{Header: h}
	take(in, "type", &o.Type)
	if err := o.apply(in); err != nil {
		return nil, err
	}
	return o, monitorRecords().insert(m.tx, o)
}

// alterMonitor reaches every pool that the monitor watches; monitors have no
// status of their own and the associations keep theirs.
func alterMonitor(m *change, o *HealthMonitor, in values) error {
	if err := o.apply(in); err != nil {
		return err
	}
	o.Generation = m.revision
	for poolID := range under(m.tx, bucketAssocByMonitor, o.ID) {
		m.touch(poolID)
	}
	return monitorRecords().save(m.tx, o)
}

func destroyMonitor(m *change, o *HealthMonitor) error {
	for poolID := range under(m.tx, bucketAssocByMonitor, o.ID) {
		return refuse(errMonitorInUse, "Health monitor %s is still in use by pool %s", o.ID, poolID)
	}
	return monitorRecords().erase(m.tx, o)
}
