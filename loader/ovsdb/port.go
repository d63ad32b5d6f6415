package ovsdb

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrNoBridge says that there is no bridge of a name.
var ErrNoBridge = errors.New("no such Open vSwitch bridge")

// Port is a port of a bridge with one interface, which has the port's name.
type Port struct {
	// Name is the device's.
	Name, Bridge string
	// VLAN is the one that the port is an access port of; 0: of none, and frames with a
	// tag neither come out of it nor go in.
	VLAN uint16
	// IDs are the interface's external_ids.
	IDs map[string]string
}

// State is what the database says of a port.
type State struct {
	// Found is false if there is no port of that name, on any bridge.
	Found bool
	Port
	// OFPort is what the switch gave the port when it took it in, -1 before that and when
	// it could not; Error is what it says then.
	OFPort int
	Error  string

	id string
	// plain: an access port, of a device that was there before.
	plain bool
}

// Is tells whether the port is as wanted. Further ids are somebody else's.
func (s *State) Is(wanted *Port) bool {
	if !s.Found || s.Bridge != wanted.Bridge || s.VLAN != wanted.VLAN || !s.plain {
		return false
	}
	for k, v := range wanted.IDs {
		if s.IDs[k] != v {
			return false
		}
	}
	return true
}

// Userspace tells whether the bridge forwards in userspace. The error is ErrNoBridge if
// there is none.
func (db *DB) Userspace(ctx context.Context, bridge string) (bool, error) {
	s, err := db.open(ctx)
	if err != nil {
		return false, err
	}
	defer s.close()
	found, err := s.transact(find("Bridge", named(bridge), "datapath_type"))
	if err != nil {
		return false, err
	}
	if len(found[0].Rows) == 0 {
		return false, fmt.Errorf("bridge %q: %w", bridge, ErrNoBridge)
	}
	return found[0].Rows[0].text("datapath_type") == "netdev", nil
}

// Look returns what is known of the port of that name.
func (db *DB) Look(ctx context.Context, name string) (State, error) {
	s, err := db.open(ctx)
	if err != nil {
		return State{}, err
	}
	defer s.close()
	return s.look(name)
}

func (s *session) look(name string) (State, error) {
	none := State{OFPort: -1}
	found, err := s.transact(
		find("Port", named(name), "_uuid", "tag", "vlan_mode"),
		find("Interface", named(name), "type", "external_ids", "ofport", "error"))
	if err != nil || len(found[0].Rows) == 0 {
		return none, err
	}
	port := found[0].Rows[0]
	state := State{Found: true, Port: Port{Name: name}, OFPort: -1, id: port.uuid("_uuid")}
	state.VLAN = uint16(max(port.number("tag"), 0))
	if len(found[1].Rows) > 0 {
		device := found[1].Rows[0]
		state.plain = port.text("vlan_mode") == "access" && device.text("type") == ""
		state.IDs, state.OFPort, state.Error = device.pairs("external_ids"), device.number("ofport"), device.text("error")
	}
	on, err := s.transact(find("Bridge", where("ports", "includes", toUUID(state.id)), "name"))
	if err != nil {
		return none, err
	}
	if len(on[0].Rows) > 0 {
		state.Bridge = on[0].Rows[0].text("name")
	}
	return state, nil
}

// Put makes the port as wanted, in the place of whatever has its name.
func (db *DB) Put(ctx context.Context, p *Port) error {
	s, err := db.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	old, err := s.look(p.Name)
	if err != nil {
		return err
	}
	if old.Found && old.Bridge == p.Bridge && old.IDs != nil {
		return s.change(&old, p)
	}
	if old.Found {
		if err := s.drop(old.id); err != nil {
			return err
		}
	}
	done, err := s.transact(
		map[string]any{"op": "insert", "table": "Interface", "uuid-name": "device", "row": map[string]any{
			"name": p.Name, "external_ids": toMap(p.IDs),
		}},
		map[string]any{"op": "insert", "table": "Port", "uuid-name": "port", "row": map[string]any{
			"name": p.Name, "interfaces": []any{"named-uuid", "device"}, "tag": p.tag(), "vlan_mode": "access",
		}},
		mutate("Bridge", named(p.Bridge), "ports", "insert", toSet([]any{"named-uuid", "port"})),
		changed())
	if err == nil && done[2].Count == 0 {
		// What was inserted belongs to no bridge, and the database has dropped it.
		err = fmt.Errorf("bridge %q: %w", p.Bridge, ErrNoBridge)
	}
	return err
}

// change mends a port that is on its bridge.
func (s *session) change(old *State, p *Port) error {
	ids := map[string]string{}
	for k, v := range old.IDs {
		ids[k] = v
	}
	for k, v := range p.IDs {
		ids[k] = v
	}
	_, err := s.transact(
		map[string]any{"op": "update", "table": "Port", "where": named(p.Name), "row": map[string]any{
			"tag": p.tag(), "vlan_mode": "access",
		}},
		map[string]any{"op": "update", "table": "Interface", "where": named(p.Name), "row": map[string]any{
			"type": "", "external_ids": toMap(ids),
		}},
		changed())
	return err
}

func (p *Port) tag() any {
	if p.VLAN == 0 {
		return toSet()
	}
	return p.VLAN
}

// changed tells the switch that there is something to do, as ovs-vsctl does.
func changed() any { return mutate("Open_vSwitch", []any{}, "next_cfg", "+=", 1) }

// takenIn bounds the wait for the switch.
const takenIn = 3 * time.Second

// Await waits until the switch has taken the port in.
func (db *DB) Await(ctx context.Context, name string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(takenIn); ; {
		state, err := db.Look(ctx, name)
		switch {
		case err != nil:
			return err
		case state.OFPort > 0:
			return nil
		case state.Error != "":
			return fmt.Errorf("port %s: Open vSwitch cannot take it in: %s", name, state.Error)
		case time.Now().After(end):
			return fmt.Errorf("port %s: Open vSwitch has not taken it in after %v: does ovs-vswitchd run?", name, takenIn)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Drop takes the port of that name off its bridge. One that is not there is no error.
func (db *DB) Drop(ctx context.Context, name string) error {
	s, err := db.open(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	old, err := s.look(name)
	if err != nil || !old.Found {
		return err
	}
	return s.drop(old.id)
}

// drop takes a port off its bridge; the database forgets what nobody refers to.
func (s *session) drop(id string) error {
	_, err := s.transact(mutate("Bridge", []any{}, "ports", "delete", toSet(toUUID(id))), changed())
	return err
}

// With lists the devices whose external_ids have a key, by name, and the key's value; with
// a value only those that have this one.
func (db *DB) With(ctx context.Context, key, value string) (map[string]string, error) {
	having := []any{}
	if value != "" {
		having = where("external_ids", "includes", toMap(map[string]string{key: value}))
	}
	s, err := db.open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	found, err := s.transact(find("Interface", having, "name", "external_ids"))
	if err != nil {
		return nil, err
	}
	devices := map[string]string{}
	for _, r := range found[0].Rows {
		if value := r.pairs("external_ids")[key]; value != "" {
			devices[r.text("name")] = value
		}
	}
	return devices, nil
}
