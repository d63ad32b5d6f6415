// Command scoreboard measures how reliable the product is and prints one JSON line per
// figure, then a table. It fails where a figure misses its target. From the top of the
// tree, as root:
//
//	make scoreboard                           # everything
//	make scoreboard ONLY=B2,B3 SEED=0x5eed    # the same mutations once more
//	make scoreboard MUTANTS=1                 # and what each figure is worth
//
// # A figure
//
// A figure is something tried many times, and how often that failed. Each has a file
// (b2.go) with a function that returns its [figure], and a line in the table of
// figure.go:
//
//	func b2() figure {
//		return figure{
//			id:     "B2",
//			what:   "mutated packets; …",           // one line, what is tried
//			target: "1,000,000 tried, none fails",  // one line, for readers
//			bound:  3 * time.Minute,                // it never takes longer
//			run:    func(ctx context.Context, seed uint64) (result, error) { … },
//		}
//	}
//
// What run returns is judged as it stands: ok is no failures and no misses. A miss is a
// sentence about anything else that the target wants and did not get ("fewer than
// 100,000 SYNs a second"). An error means that nothing was measured at all.
//
// Every figure runs in a process of its own, in the top folder of the tree that it
// judges, and is killed when its bound is over. If world is set that process has
// entered the laboratory's private world (package tests/lab), so that it can build
// networks, and all that it leaves behind ends with it. QLBAAS_BIN names the binary
// that was built from the same tree. Chance comes from the seed and from nothing else.
//
// A figure that some test measures anyway runs it (see goTest): the test's subtests
// are what is tried, and lines "scoreboard: {…}" of its output are further numbers.
//
// # A mutant
//
// A figure is worth what it notices. mutants/ holds patches that break the product,
// named <figure>-<what>.patch in lower case; what stands above the first "diff" says
// in a sentence or two what is broken, and which figure has to notice how. MUTANTS=1
// copies the tree, applies a patch, compiles the BPF programs if their sources have
// changed, builds everything, and has the figure run there by the patched tree's own
// scoreboard, until its first failure. A figure that stays green, or cannot be run, is a miss.
//
// To make one: break the code, `git diff -- FILES > tests/scoreboard/mutants/b2-….patch`,
// write its first lines, mend the code again. Keep patches small, and leave generated
// files out. `go test ./tests/scoreboard` fails where a patch does not apply any more.
//
// # Why processes
//
// A private world can be entered only by a program that starts anew; a figure that
// hangs, leaks or dies must not take the others along; and a mutant's figure is another
// tree's program in any case. So there is one way for all.
package main
