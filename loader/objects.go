package loader

import (
	"errors"
	"fmt"
	stdmaps "maps"
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
	constants      = hook.Constants
	numberVariable = "pool_number"
	macVariable    = "device_mac"
)

// objects are the compiled programs and maps of one family that this binary carries.
type objects struct {
	tc, xdp *ebpf.CollectionSpec
	// build tells programs of this binary from those that another version has
	// loaded. The kernel's tag would not do: it leaves out the constants.
	build string
}

func readObjects() (all [families]objects, err error) {
	if all[ipv4], err = readPair(bpf.LoadLb4, bpf.LoadXdpLb4); err != nil {
		return all, err
	}
	all[ipv6], err = readPair(bpf.LoadLb6, bpf.LoadXdpLb6)
	return all, err
}

// readPair reads the objects of one family.
func readPair(loadTC, loadXDP func() (*ebpf.CollectionSpec, error)) (objects, error) {
	tc, err := loadTC()
	if err != nil {
		return objects{}, fmt.Errorf("read embedded programs: %w", err)
	}
	xdp, err := loadXDP()
	if err != nil {
		return objects{}, fmt.Errorf("read embedded programs: %w", err)
	}
	hook.ForgetLines(tc, xdp)
	for _, spec := range []*ebpf.CollectionSpec{tc, xdp} {
		// Nobody maps the constants into memory, and that would take whole pages.
		spec.Maps[constants].Flags &^= unix.BPF_F_MMAPABLE
	}
	return objects{tc: tc, xdp: xdp, build: hook.Build(tc, xdp)}, nil
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

// programs are one pool's, loaded. The XDP pair is there only where it is attached.
type programs struct {
	build     string
	tc, sweep *ebpf.Program
	xdp, pass *ebpf.Program
	constants *ebpf.Map
}

// Close lets go of the programs; what is attached or pinned lives on.
func (ps *programs) Close() error {
	if ps == nil {
		return nil
	}
	return errors.Join(ps.tc.Close(), ps.sweep.Close(), ps.xdp.Close(), ps.pass.Close(), ps.constants.Close())
}

// named are the programs that are pinned, by name.
func (ps *programs) named() map[string]**ebpf.Program {
	return map[string]**ebpf.Program{
		programTC: &ps.tc, programSweep: &ps.sweep, programXDP: &ps.xdp, programPass: &ps.pass,
	}
}

// loadTC loads the programs of a pool on its maps, but for the XDP pair.
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

// loadXDP loads the XDP pair of a pool on its maps, for a device with that address.
func (n *Node) loadXDP(f family, number uint32, mac [6]byte, own maps.PoolMaps) (xdp, pass *ebpf.Program, _ error) {
	var to struct {
		XDP  *ebpf.Program `ebpf:"xdp_lb"`
		Pass *ebpf.Program `ebpf:"xdp_pass"`
	}
	values := map[string]any{numberVariable: number, macVariable: mac}
	err := load(n.objects[f].xdp, values, n.allMaps(f, own), &to)
	return to.XDP, to.Pass, err
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
	spec := compiled.Copy()
	for _, name := range []string{"flows", "member_states"} { // whose size is the pool's
		spec.Maps[name].MaxEntries = use[name].MaxEntries()
	}
	for name, value := range values {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	if err := spec.LoadAndAssign(to, &ebpf.CollectionOptions{MapReplacements: use}); err != nil {
		return fmt.Errorf("load programs: %w", err)
	}
	return nil
}

// readNumber reads the pool's number out of the constants of its programs.
func (o *objects) readNumber(rodata *ebpf.Map) (number uint32, err error) {
	err = readConstant(o.tc, numberVariable, rodata, &number)
	return number, err
}

// knowsMAC tells whether a fast lane was loaded for a device with that address: it leaves
// frames for others alone.
func (o *objects) knowsMAC(xdp *ebpf.Program, mac [6]byte) (bool, error) {
	used, err := mapsOf(xdp)
	if err != nil {
		return false, err
	}
	defer closeMaps(used)
	var found [6]byte
	if rodata := used[constants]; rodata != nil {
		err = readConstant(o.xdp, macVariable, rodata, &found)
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
