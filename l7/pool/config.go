package pool

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Method chooses the member of a new client.
type Method string

// The balancing methods.
const (
	RoundRobin       Method = "ROUND_ROBIN"
	LeastConnections Method = "LEAST_CONNECTIONS"
	SourceIP         Method = "SOURCE_IP"
)

// Persistence keeps a client at the member that it had before.
type Persistence string

// The kinds of persistence that need HTTP to be read.
const (
	NoPersistence Persistence = ""
	HTTPCookie    Persistence = "HTTP_COOKIE"
	AppCookie     Persistence = "APP_COOKIE"
)

// Config is what a pool shall be, whole.
type Config struct {
	// AdminUp false gives no member to anybody.
	AdminUp     bool        `json:"admin_up"`
	Method      Method      `json:"method"`
	Persistence Persistence `json:"persistence,omitempty"`
	// CookieName is the application's cookie, for APP_COOKIE.
	CookieName string `json:"cookie_name,omitempty"`
	// Keys make the values of HTTP_COOKIE: the first one makes new values, all are
	// accepted. At least 16 bytes each.
	Keys [][]byte `json:"keys,omitempty"`
	// Members in the order in which ROUND_ROBIN visits them; at most 1,024.
	Members []MemberConfig `json:"members"`
	// DrainTimeout bounds how long requests and tunnels of a removed or admin-down
	// member live; 0 means no bound.
	DrainTimeout time.Duration `json:"drain_timeout,omitempty"`
}

// MemberConfig is one endpoint.
type MemberConfig struct {
	ID      string         `json:"id"`
	Address netip.AddrPort `json:"address"`
	// Weight is 0..256; 0 gets no new clients, persistent ones still reach it.
	Weight int `json:"weight"`
	// AdminUp false takes the member out as if it were removed.
	AdminUp bool `json:"admin_up"`
	// Up is what monitors say.
	Up bool `json:"up"`
}

const (
	maxMembers = 1024
	maxWeight  = 256
	minKey     = 16
)

// ErrInvalid means that the configuration contradicts itself; the text names the field.
var ErrInvalid = errors.New("invalid configuration")

// Validate returns ErrInvalid for what Apply would not take.
func (c *Config) Validate() error {
	switch c.Method {
	case RoundRobin, LeastConnections, SourceIP:
	default:
		return fmt.Errorf("%w: method %q", ErrInvalid, c.Method)
	}
	switch c.Persistence {
	case NoPersistence:
	case HTTPCookie:
		if err := c.validateKeys(); err != nil {
			return err
		}
	case AppCookie:
		if c.CookieName == "" {
			return fmt.Errorf("%w: APP_COOKIE without cookie_name", ErrInvalid)
		}
	default:
		return fmt.Errorf("%w: persistence %q", ErrInvalid, c.Persistence)
	}
	if c.DrainTimeout < 0 {
		return fmt.Errorf("%w: drain_timeout %s", ErrInvalid, c.DrainTimeout)
	}
	return c.validateMembers()
}

func (c *Config) validateKeys() error {
	if len(c.Keys) == 0 {
		return fmt.Errorf("%w: HTTP_COOKIE without keys", ErrInvalid)
	}
	for _, key := range c.Keys {
		if len(key) < minKey {
			return fmt.Errorf("%w: a key of %d bytes", ErrInvalid, len(key))
		}
	}
	return nil
}

func (c *Config) validateMembers() error {
	if len(c.Members) > maxMembers {
		return fmt.Errorf("%w: %d members", ErrInvalid, len(c.Members))
	}
	ids, addresses := map[string]bool{}, map[netip.AddrPort]bool{}
	for _, m := range c.Members {
		switch {
		case m.ID == "" || ids[m.ID]:
			return fmt.Errorf("%w: member id %q", ErrInvalid, m.ID)
		case !m.Address.IsValid() || m.Address.Port() == 0 || addresses[m.Address]:
			return fmt.Errorf("%w: address %s of member %s", ErrInvalid, m.Address, m.ID)
		case m.Weight < 0 || m.Weight > maxWeight:
			return fmt.Errorf("%w: weight %d of member %s", ErrInvalid, m.Weight, m.ID)
		}
		ids[m.ID], addresses[m.Address] = true, true
	}
	return nil
}
