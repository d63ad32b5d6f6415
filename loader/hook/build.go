package hook

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
)

// Constants is the name of a program's constants among its maps.
const Constants = ".rodata"

// buildDigits is how much of the digest is enough.
const buildDigits = 12

// Build names what the compiled programs do: it tells programs of this binary from those
// that another version has loaded. The kernel's tag would not do: it leaves out the
// constants.
func Build(all ...*ebpf.CollectionSpec) string {
	digest := sha256.New()
	for _, spec := range all {
		writeIdentity(digest, spec)
	}
	return hex.EncodeToString(digest.Sum(nil))[:buildDigits]
}

// ForgetLines takes the lines of source from the programs: the kernel would keep them, and
// where each is in the machine code, every time that a program is loaded. They were a sixth
// of what a pool takes.
func ForgetLines(all ...*ebpf.CollectionSpec) {
	for _, spec := range all {
		for _, p := range spec.Programs {
			for i := range p.Instructions {
				p.Instructions[i] = p.Instructions[i].WithSource(nil)
			}
		}
	}
}

// writeIdentity writes all that makes a program do what it does.
func writeIdentity(digest hash.Hash, spec *ebpf.CollectionSpec) {
	for _, name := range slices.Sorted(maps.Keys(spec.Programs)) {
		fmt.Fprintf(digest, "%s\n%+v\n", name, spec.Programs[name].Instructions)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Variables)) {
		fmt.Fprintf(digest, "%s %x\n", name, spec.Variables[name].Value)
	}
	if rodata := spec.Maps[Constants]; rodata != nil {
		fmt.Fprintf(digest, "%v\n", rodata.Contents)
	}
}
