package rows

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// proof is a call of Proves or Probes in a test file.
type proof struct {
	call string // which of the two
	row  int
	// test is the package's name and the test's, or several tests' that share the
	// function with the call: "bpf.TestNAT".
	test string
}

// scanned is what the test files of a tree say.
type scanned struct {
	proofs   []proof
	mistakes []string
}

// suite is the test files of one directory and package.
type suite struct {
	name string
	// functions and package variables by name; methods of one name are one.
	mentions map[string]map[string]bool
	calls    map[string][]proof // by function, without their tests
	tests    []string
}

// scan reads all test files that are built by default, below a directory.
func scan(root string) (*scanned, error) {
	out := &scanned{}
	suites := map[string]*suite{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		if built, err := build.Default.MatchFile(filepath.Dir(path), d.Name()); err != nil || !built {
			return err
		}
		return out.read(path, suites)
	})
	for _, directory := range slices.Sorted(maps.Keys(suites)) {
		suites[directory].attribute(out)
	}
	return out, err
}

func (s *scanned) read(path string, suites map[string]*suite) error {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	name := strings.TrimSuffix(file.Name.Name, "_test")
	key := filepath.Dir(path)
	if suites[key] == nil {
		suites[key] = &suite{name: name, mentions: map[string]map[string]bool{}, calls: map[string][]proof{}}
	}
	for _, d := range file.Decls {
		s.declaration(files, suites[key], d)
	}
	return nil
}

func (s *scanned) declaration(files *token.FileSet, in *suite, d ast.Decl) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && strings.HasPrefix(d.Name.Name, "Test") && d.Name.Name != "TestMain" {
			in.tests = append(in.tests, d.Name.Name)
		}
		if d.Body != nil {
			s.body(files, in, d.Name.Name, d.Body)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for _, name := range v.Names {
				for _, value := range v.Values {
					s.body(files, in, name.Name, value)
				}
			}
		}
	}
}

// body notes which names a function or variable mentions, and which rows it proves.
func (s *scanned) body(files *token.FileSet, in *suite, name string, body ast.Node) {
	if in.mentions[name] == nil {
		in.mentions[name] = map[string]bool{}
	}
	own, selected := locals(body)
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Ident:
			if selected[n] || !own[n.Name] {
				in.mentions[name][n.Name] = true
			}
		case *ast.CallExpr:
			call := callOf(n)
			if call == "" {
				return true
			}
			for _, argument := range n.Args[1:] {
				row, err := literal(argument)
				if err != nil {
					s.mistakes = append(s.mistakes, fmt.Sprintf("%s: %v", files.Position(argument.Pos()), err))
					continue
				}
				in.calls[name] = append(in.calls[name], proof{call: call, row: row})
			}
		}
		return true
	})
}

// locals are the names that a function declares for itself, which are not those of the
// package, and the identifiers behind a dot, which are.
func locals(body ast.Node) (own map[string]bool, selected map[*ast.Ident]bool) {
	own, selected = map[string]bool{}, map[*ast.Ident]bool{}
	declare := func(e ast.Expr) {
		if name, ok := e.(*ast.Ident); ok {
			own[name.Name] = true
		}
	}
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			selected[n.Sel] = true
		case *ast.AssignStmt:
			for _, e := range n.Lhs {
				if n.Tok == token.DEFINE {
					declare(e)
				}
			}
		case *ast.RangeStmt:
			if n.Tok == token.DEFINE {
				declare(n.Key)
				declare(n.Value)
			}
		case *ast.Field:
			for _, name := range n.Names {
				declare(name)
			}
		case *ast.ValueSpec:
			for _, name := range n.Names {
				declare(name)
			}
		}
		return true
	})
	return own, selected
}

// callOf is "Proves" or "Probes" where the call is one of those, with a test and rows.
func callOf(n *ast.CallExpr) string {
	selector, ok := n.Fun.(*ast.SelectorExpr)
	if !ok || len(n.Args) < 1 {
		return ""
	}
	from, ok := selector.X.(*ast.Ident)
	if !ok || from.Name != "rows" || (selector.Sel.Name != "Proves" && selector.Sel.Name != "Probes") {
		return ""
	}
	return selector.Sel.Name
}

func literal(e ast.Expr) (int, error) {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.INT {
		return 0, fmt.Errorf("a row is not said as a number: %T", e)
	}
	row, err := strconv.Atoi(l.Value)
	if err == nil && (row < 1 || row > Last) {
		err = fmt.Errorf("there is no row %d", row)
	}
	return row, err
}

// attribute finds the tests that lead to each call.
func (in *suite) attribute(out *scanned) {
	led := map[string]bool{}
	slices.Sort(in.tests)
	for _, test := range in.tests {
		for name := range in.reached(test) {
			led[name] = true
			for _, p := range in.calls[name] {
				p.test = in.name + "." + test
				out.proofs = append(out.proofs, p)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.calls)) {
		if !led[name] {
			out.mistakes = append(out.mistakes, fmt.Sprintf("%s.%s proves something, and no test leads there", in.name, name))
		}
	}
}

// reached is every name that a test mentions, itself or by way of others.
func (in *suite) reached(test string) map[string]bool {
	found, next := map[string]bool{test: true}, []string{test}
	for len(next) > 0 {
		for name := range in.mentions[next[0]] {
			if !found[name] && in.mentions[name] != nil {
				found[name] = true
				next = append(next, name)
			}
		}
		next = next[1:]
	}
	return found
}
