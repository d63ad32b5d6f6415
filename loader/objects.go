package loader

import (
	"errors"
	"fmt"
	stdmaps "maps"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"qlbaas/bpf"
	"qlbaas/loader/hook"
	"qlbaas/maps"
)

// Names of programs, constants and maps in the compiled objects.
const (
	programTC      = "tc_lb"
	programSweep   = "sweep_ports"
	programXDP     = "xdp_lb"
	programPass    = "xdp_pass"
	programTap     = "tap_lb"
	constants      = hook.Constants
	numberVariable = "pool_number"
	macVariable    = "device_mac"
)

// objects are the compiled programs and maps of one family that this binary carries.
type objects struct {
	tc *ebpf.CollectionSpec
	// lanes are the fast lanes' objects; none has none.
	lanes map[lane]*ebpf.CollectionSpec
	// build tells programs of this binary from those that another version has
	// loaded. The kernel's tag would not do: it leaves out the constants.
	build string
}

func readObjects() (all [families]objects, err error) {
	if all[ipv4], err = readFamily(bpf.LoadLb4, bpf.LoadXdpLb4, bpf.LoadTapLb4); err != nil {
		return all, err
	}
	all[ipv6], err = readFamily(bpf.LoadLb6, bpf.LoadXdpLb6, bpf.LoadTapLb6)
	return all, err
}

// readFamily reads the objects of one family.
func readFamily(loadTC, loadXDP, loadTap func() (*ebpf.CollectionSpec, error)) (objects, error) {
	var specs [3]*ebpf.CollectionSpec
	for i, load := range []func() (*ebpf.CollectionSpec, error){loadTC, loadXDP, loadTap} {
		var err error
		if specs[i], err = load(); err != nil {
			return objects{}, fmt.Errorf("read embedded programs: %w", err)
		}
	}
	return newObjects(specs[0], map[lane]*ebpf.CollectionSpec{laneXDP: specs[1], laneTap: specs[2]}), nil
}

func newObjects(tc *ebpf.CollectionSpec, lanes map[lane]*ebpf.CollectionSpec) objects {
	all := []*ebpf.CollectionSpec{tc, lanes[laneXDP], lanes[laneTap]}
	hook.ForgetLines(all...)
	for _, spec := range all {
		// Nobody maps the constants into memory, and that would take whole pages.
		spec.Maps[constants].Flags &^= unix.BPF_F_MMAPABLE
	}
	return objects{tc: tc, lanes: lanes, build: hook.Build(all...)}
}

// makePoolMaps makes a pool's empty maps, with room for so many source addresses.
func (o *objects) makePoolMaps(flowLimit uint32, sources uint16) (m maps.PoolMaps, err error) {
	spec := o.tc.Copy()
	spec.Maps["flows"].MaxEntries = maps.FlowEntries(flowLimit)
	spec.Maps["member_states"].MaxEntries = maps.StateEntries(uint32(sources))
	if err := spec.LoadAndAssign(&m, nil); err != nil {
		return m, fmt.Errorf("make maps: %w", err)
	}
	return m, nil
}

// makeNodeMaps makes the empty maps that all pools of the family share.
func (o *objects) makeNodeMaps() (m maps.NodeMaps, err error) {
	if err := o.tc.Copy().LoadAndAssign(&m, nil); err != nil {
		return m, fmt.Errorf("make maps: %w", err)
	}
	return m, nil
}

// programs are one pool's, loaded. A fast lane's are there only where it is attached.
type programs struct {
	build          string
	tc, sweep      *ebpf.Program
	xdp, pass, tap *ebpf.Program
	constants      *ebpf.Map
}

// Close lets go of the programs; what is attached or pinned lives on.
func (ps *programs) Close() error {
	if ps == nil {
		return nil
	}
	return errors.Join(ps.tc.Close(), ps.sweep.Close(), ps.xdp.Close(), ps.pass.Close(), ps.tap.Close(), ps.constants.Close())
}

// named are the programs that are pinned, by name.
func (ps *programs) named() map[string]**ebpf.Program {
	return map[string]**ebpf.Program{
		programTC: &ps.tc, programSweep: &ps.sweep, programXDP: &ps.xdp, programPass: &ps.pass,
		programTap: &ps.tap,
	}
}

// loadTC loads the programs of a pool on its maps, but for a fast lane's.
func (n *Node) loadTC(f family, number uint32, own maps.PoolMaps) (*programs, error) {
	var to struct {
		TC        *ebpf.Program `ebpf:"tc_lb"`
		Sweep     *ebpf.Program `ebpf:"sweep_ports"`
		Constants *ebpf.Map     `ebpf:".rodata"`
	}
	values := map[string]any{numberVariable: number}
	if err := load(n.objects[f].tc, values, n.allMaps(f, own), &to); err != nil {
		return nil, err
	}
	return &programs{
		build: n.objects[f].build, tc: to.TC, sweep: to.Sweep, constants: to.Constants,
	}, nil
}

// loadLane loads the programs of the node's fast lane into ps, on a pool's maps and for a
// device with that address.
func (n *Node) loadLane(f family, number uint32, mac [6]byte, own maps.PoolMaps, ps *programs) error {
	names := n.hook.lane.programs()
	if len(names) == 0 {
		return nil
	}
	compiled := n.objects[f].lanes[n.hook.lane].Copy()
	stdmaps.DeleteFunc(compiled.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !slices.Contains(names, name) })
	spec, err := prepare(compiled, map[string]any{numberVariable: number, macVariable: mac}, n.allMaps(f, own))
	if err != nil {
		return err
	}
	loaded, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: n.allMaps(f, own)})
	if err != nil {
		return fmt.Errorf("load fast lane: %w", err)
	}
	defer loaded.Close()
	for _, name := range names {
		*ps.named()[name] = loaded.DetachProgram(name)
	}
	return nil
}

// allMaps are the pool's own maps and the node's, by name.
func (n *Node) allMaps(f family, own maps.PoolMaps) map[string]*ebpf.Map {
	shared := n.handshakes(f).Maps()
	all := shared.Names()
	stdmaps.Copy(all, own.Names())
	return all
}

// load loads what the fields of to name, on maps that are there already.
func load(compiled *ebpf.CollectionSpec, values map[string]any, use map[string]*ebpf.Map, to any) error {
	spec, err := prepare(compiled, values, use)
	if err != nil {
		return err
	}
	if err := spec.LoadAndAssign(to, &ebpf.CollectionOptions{MapReplacements: use}); err != nil {
		return fmt.Errorf("load programs: %w", err)
	}
	return nil
}

// prepare makes a copy for these maps, and with these constants.
func prepare(compiled *ebpf.CollectionSpec, values map[string]any, use map[string]*ebpf.Map) (*ebpf.CollectionSpec, error) {
	spec := compiled.Copy()
	for _, name := range []string{"flows", "member_states"} { // whose size is the pool's
		spec.Maps[name].MaxEntries = use[name].MaxEntries()
	}
	for name, value := range values {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	return spec, nil
}

// readNumber reads the pool's number out of the constants of its programs.
func (o *objects) readNumber(rodata *ebpf.Map) (number uint32, err error) {
	err = readConstant(o.tc, numberVariable, rodata, &number)
	return number, err
}

// knowsMAC tells whether a fast lane's program was loaded for a device with that address:
// it leaves frames for others alone.
func (o *objects) knowsMAC(l lane, program *ebpf.Program, mac [6]byte) (bool, error) {
	used, err := mapsOf(program)
	if err != nil {
		return false, err
	}
	defer closeMaps(used)
	var found [6]byte
	if rodata := used[constants]; rodata != nil {
		err = readConstant(o.lanes[l], macVariable, rodata, &found)
	}
	return found == mac, err
}

// readConstant reads one of the constants that programs were loaded with.
func readConstant(spec *ebpf.CollectionSpec, name string, rodata *ebpf.Map, to any) error {
	value, err := rodata.LookupBytes(uint32(0))
	if err != nil {
		return fmt.Errorf("read constants: %w", err)
	}
	variable := spec.Variables[name].Copy()
	end := variable.Offset + variable.Size()
	if uint64(end) > uint64(len(value)) {
		return fmt.Errorf("read %s: constants end at byte %d", name, len(value))
	}
	variable.Value = value[variable.Offset:end]
	if err := variable.Get(to); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// mapsOf opens the maps that a program uses, by name. Pins can be deleted; what a
// running program uses is what counts.
func mapsOf(program *ebpf.Program) (map[string]*ebpf.Map, error) {
	info, err := program.Info()
	if err != nil {
		return nil, fmt.Errorf("look at program: %w", err)
	}
	ids, _ := info.MapIDs()
	used := map[string]*ebpf.Map{}
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			closeMaps(used)
			return nil, fmt.Errorf("open map %d of program: %w", id, err)
		}
		name, err := kernelName(m)
		if err != nil {
			m.Close()
			closeMaps(used)
			return nil, err
		}
		used[name] = m
	}
	return used, nil
}

// kernelName is the map's name in the objects.
func kernelName(m *ebpf.Map) (string, error) {
	info, err := m.Info()
	if err != nil {
		return "", fmt.Errorf("look at map: %w", err)
	}
	if strings.HasSuffix(info.Name, "rodata") {
		return constants, nil
	}
	return info.Name, nil
}

func closeMaps(all map[string]*ebpf.Map) {
	for _, m := range all {
		m.Close()
	}
}

func mapID(m *ebpf.Map) (ebpf.MapID, error) {
	info, err := m.Info()
	if err != nil {
		return 0, fmt.Errorf("look at map: %w", err)
	}
	id, _ := info.ID()
	return id, nil
}
