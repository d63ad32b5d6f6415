package lbaas

import (
	"crypto/rand"
	"slices"
	"strings"
)

// persistenceKind reads a *SessionPersistence; null and {} mean nil. Keys that
// are not known are ignored, as clients expect of this attribute alone.
func persistenceKind() kind {
	return kind{parse: func(attr string, v any) (any, error) {
		var none *SessionPersistence
		if v == nil {
			return none, nil
		}
		fields, ok := v.(map[string]any)
		if !ok {
			return nil, invalid(errBadRequest, attr, "%s is not an object", quote(v))
		}
		if len(fields) == 0 {
			return none, nil
		}
		raw, ok := fields["type"]
		if !ok {
			return nil, invalid(errBadRequest, attr, "type is missing")
		}
		typ, err := enumKind(persistenceTypes()...).parse(attr+" type", raw)
		if err != nil {
			return nil, err
		}
		p := &SessionPersistence{Type: typ.(PersistenceType)}
		name, named := fields["cookie_name"]
		if p.Type != PersistenceAppCookie {
			if named {
				return nil, invalid(errBadRequest, attr, "cookie_name is not allowed with the type %s", p.Type)
			}
			return p, nil
		}
		if !named {
			return nil, invalid(errBadRequest, attr, "cookie_name is missing, the type %s needs it", p.Type)
		}
		p.CookieName, err = stringOf(attr+" cookie_name", name)
		if err == nil && (!isToken(p.CookieName) || len(p.CookieName) > maxText) {
			err = invalid(errBadRequest, attr+" cookie_name", "%s is not the name of a cookie", quote(p.CookieName))
		}
		return orError(p, err)
	}}
}

func persistenceTypes() []PersistenceType {
	return []PersistenceType{PersistenceSourceIP, PersistenceHTTPCookie, PersistenceAppCookie}
}

// persistenceFor lists what a VIP of the protocol can have. Cookies are read on HTTP
// only; on TCP and HTTPS they never had an effect. UDP, which the original did not have,
// never knew them.
func persistenceFor(protocol Protocol) []PersistenceType {
	if protocol == ProtocolUDP {
		return []PersistenceType{PersistenceSourceIP}
	}
	return persistenceTypes()
}

// cookieKeyLength is that of the keys of HTTP_COOKIE, in bytes.
const cookieKeyLength = 32

// ensureCookieKey gives a pool its key when it is to keep clients by cookies of its own
// for the first time. Whoever came back later with an old cookie would else be a stranger.
func (p *Pool) ensureCookieKey(o *VIP) (made bool) {
	if o.SessionPersistence == nil || o.SessionPersistence.Type != PersistenceHTTPCookie || len(p.CookieKeys) > 0 {
		return false
	}
	key := make([]byte, cookieKeyLength)
	_, _ = rand.Read(key) // it never fails: the runtime ends the process instead
	p.CookieKeys = [][]byte{key}
	return true
}

func checkPersistence(p *SessionPersistence, protocol Protocol) error {
	if p == nil || slices.Contains(persistenceFor(protocol), p.Type) {
		return nil
	}
	var allowed []string
	for _, t := range persistenceFor(protocol) {
		allowed = append(allowed, string(t))
	}
	return invalid(errBadRequest, "session_persistence type", "%s is not supported on a vip with protocol %s: "+
		"allowed are %s", p.Type, protocol, strings.Join(allowed, ", "))
}

func showPersistence(p *SessionPersistence) any {
	if p == nil {
		return nil
	}
	o := Object{"type": string(p.Type)}
	if p.CookieName != "" {
		o["cookie_name"] = p.CookieName
	}
	return o
}
