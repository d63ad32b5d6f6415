// Package cmdline holds the conventions that every command of qlbaas shares:
// where flags may stand, what counts as a usage error, which exit code an error
// becomes, and shell completion.
//
// It knows urfave/cli and nothing of load balancers. It never opens a
// connection, a file or the environment.
//
// # Why flags are moved
//
// urfave/cli stops looking for flags at the first positional argument, while
// users of the neutron command are used to `vip-create POOL --name x` as much as
// to `vip-create --name x POOL`. Arrange therefore sorts a call into path, flags
// and positional arguments before the library sees it. It needs no guessing: the
// command table says which flags exist and which of them take a value.
//
// # Why completion is our own
//
// The library's completion hands the typed words to the shell's eval, reads
// os.Args behind the caller's back and knows no flag values. Complete is a pure
// function of the command table and the words, so it can be tested, and the
// scripts pass the words as arguments and evaluate nothing.
package cmdline
