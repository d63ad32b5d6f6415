// Package rows is the catalogue of hostile and unusual packets: what each kind is, what
// has to become of it, and which tests prove it. Tests name the rows that they prove
// by calling [Proves]; the package's own test holds the catalogue, those calls and the
// matrix in tests/README.md against each other.
package rows
