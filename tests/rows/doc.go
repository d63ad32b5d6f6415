// Package rows is the catalogue of hostile and unusual packets: what each kind is, what
// has to become of it, and which tests prove it. Tests name the rows that they prove
// by calling [Proves]; the package's own test holds the catalogue, those calls and the
// matrix in tests/README.md against each other. `go test ./tests/rows -update` writes
// the matrix anew.
//
// In the catalogue "passes" means: left to the namespace's stack, byte for byte; a name
// in `these` is a drop reason, of which bpf/README.md has the list; C is a client, M a
// member, V the virtual address, S the address and port that the member sees.
//
// What holds for every row, and what a proof has to look at:
//
//   - the packet is decided on once: what came in is what was forwarded, passed and
//     dropped, together;
//   - each frame that leaves has right checksums, unless it came in with a wrong one,
//     which stays wrong;
//   - no table has an entry more than the row says, and none is left in the end;
//   - nobody gets more bytes than he has sent, but for the header of an ICMP error;
//   - connections that are there do not feel it;
//   - the daemon's log does not grow with packets.
package rows
