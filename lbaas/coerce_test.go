package lbaas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// tables returns the attribute tables of all collections, in a fixed order.
func tables() []*desc {
	var list []*desc
	for _, r := range resources() {
		list = append(list, r.describe())
	}
	slices.SortFunc(list, func(a, b *desc) int { return strings.Compare(string(a.collection), string(b.collection)) })
	return list
}

// TestTables: each row can be used as it says.
func TestTables(t *testing.T) {
	if len(tables()) != 9 {
		t.Fatalf("%d collections", len(tables()))
	}
	for _, d := range tables() {
		seen := map[string]bool{}
		for _, a := range d.attrs {
			name := string(d.collection) + " " + a.name
			if seen[a.name] {
				t.Errorf("%s: twice", name)
			}
			seen[a.name] = true
			if a.access&(inPost|inPut) != 0 && a.kind.parse == nil {
				t.Errorf("%s: can be set and has no kind", name)
			}
			if a.access&required != 0 && (a.access&inPost == 0 || a.def != nil) {
				t.Errorf("%s: required, and not in POST or with a default", name)
			}
			if a.extra && a.def == nil {
				t.Errorf("%s: kept for its owner, and null without", name)
			}
		}
		if !seen["id"] || !seen["tenant_id"] {
			t.Errorf("%s: no id or no owner", d.collection)
		}
		if codeOf(d.missing) != 404 {
			t.Errorf("%s: a missing one is answered with %d", d.collection, codeOf(d.missing))
		}
	}
}

// FuzzAttributes gives every attribute any JSON value. It is accepted in the
// attribute's own type, within its limits, or refused with a message that names
// the attribute and is safe to print.
func FuzzAttributes(f *testing.F) {
	for _, seed := range []string{`1`, `-1`, `"80"`, `" +7 "`, `1e400`, `0.9`, `"True"`, `null`, `true`, `""`, `"TCP"`, `"10.0.0.9"`,
		`"::1"`, `"2001:db8::9"`, `"::ffff:10.0.0.9"`, `"fe80::1%eth0"`, `"2001:db8::/64"`, `"10.0.0.0/24"`, `"fa:16:3e:00:00:01"`, `"11111111-2222-3333-4444-555555555555"`, `[]`, `{}`, `["10.0.0.1"]`,
		`{"type":"APP_COOKIE","cookie_name":"c"}`, `[{"start":"10.0.0.2","end":"10.0.0.9"}]`, `[{"subnet_id":1}]`,
		`{"network_id":"11111111-2222-3333-4444-555555555555","enable_snat":0,"external_fixed_ips":[{"ip_address":"10.0.0.9"}]}`,
		`[{"destination":"10.0.0.0/24","nexthop":"10.1.0.9"}]`, `"200-204"`, `"/x"`, `"\u001b"`, `"\u202e"`, `[[[["\u0007"]]]]`, `{"\u0000":1}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		var v any
		if dec.Decode(&v) != nil {
			return
		}
		for _, d := range tables() {
			for _, a := range d.attrs {
				if a.kind.parse == nil {
					continue
				}
				name := string(d.collection) + " " + a.name
				got, err := a.kind.parse(a.name, v)
				if err != nil {
					checkRefusal(t, name, a, err)
					continue
				}
				checkAccepted(t, name, a, got)
			}
		}
	})
}

func checkRefusal(t *testing.T, name string, a attribute, err error) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != 400 || len(e.Message) > 600 {
		t.Fatalf("%s: refused with %v", name, err)
	}
	if a.name != "provider" && !strings.Contains(e.Message, a.name) {
		t.Fatalf("%s: %q does not name the attribute", name, e.Message)
	}
	if strings.ContainsFunc(e.Message, func(r rune) bool { return unicode.IsControl(r) || isDirectionMark(r) }) {
		t.Fatalf("%s: %q is not safe to print", name, e.Message)
	}
}

func checkAccepted(t *testing.T, name string, a attribute, got any) {
	t.Helper()
	// A value and the default have the same type, or the object could not take it.
	if a.def != nil && !a.extra && fmt.Sprintf("%T", a.def) != fmt.Sprintf("%T", got) {
		t.Fatalf("%s: %T, the default is %T", name, got, a.def)
	}
	switch got := got.(type) {
	case string:
		if err := checkText(a.name, got, 4096); err != nil {
			t.Fatalf("%s: accepted %q: %v", name, got, err)
		}
	case netip.Addr:
		if got.IsValid() && (got.Is4In6() || got.Zone() != "" || a.name == "address" && strings.HasPrefix(name, "members") && unreachable(got) != "") {
			t.Fatalf("%s: accepted %s", name, got)
		}
	}
	// What is accepted must be accepted in the form in which it is shown.
	shown, err := json.Marshal(got)
	if err != nil {
		t.Fatalf("%s: %v can't be shown: %v", name, got, err)
	}
	if strings.HasPrefix(string(shown), `"`) && got != "" && got != (netip.Addr{}) {
		var text any
		if err := json.Unmarshal(shown, &text); err != nil {
			t.Fatal(err)
		}
		if again, err := a.kind.parse(a.name, text); err != nil || again != got {
			t.Fatalf("%s: shown as %s and read as %v %v", name, shown, again, err)
		}
	}
}

// TestUUID: only this text can become a part of a key, a path or a name.
func TestUUID(t *testing.T) {
	if id := newUUID(); !isUUID(id) || id[14] != '4' || !strings.ContainsRune("89ab", rune(id[19])) {
		t.Errorf("made %q", id)
	}
	for _, s := range []string{"", "..", "11111111-2222-3333-4444-55555555555", "11111111-2222-3333-4444-5555555555555",
		"11111111-2222-3333-4444-55555555555A", "11111111/2222-3333-4444-555555555555", "11111111222233334444555555555555----"} {
		if isUUID(s) {
			t.Errorf("%q is a UUID", s)
		}
	}
}

// TestSubnetRanges: what a subnet gives out when nobody says so.
func TestSubnetRanges(t *testing.T) {
	for _, c := range []struct{ cidr, gateway, want string }{
		{"10.0.0.0/24", "10.0.0.1", "[{10.0.0.2 10.0.0.254}]"},
		{"10.0.0.0/24", "10.0.0.254", "[{10.0.0.1 10.0.0.253}]"},
		{"10.0.0.0/24", "10.0.0.100", "[{10.0.0.1 10.0.0.99} {10.0.0.101 10.0.0.254}]"},
		{"10.0.0.0/30", "10.0.0.1", "[{10.0.0.2 10.0.0.2}]"},
		{"10.0.0.0/30", "10.0.0.2", "[{10.0.0.1 10.0.0.1}]"},
		{"10.0.0.0/23", "", "[{10.0.0.1 10.0.1.254}]"},
		{"2001:db8::/64", "2001:db8::1", "[{2001:db8::2 2001:db8::ffff:ffff:ffff:ffff}]"},
		{"2001:db8::/126", "2001:db8::3", "[{2001:db8::1 2001:db8::2}]"},
		{"255.255.255.0/24", "255.255.255.1", "[{255.255.255.2 255.255.255.254}]"},
	} {
		var gateway netip.Addr
		if c.gateway != "" {
			gateway = netip.MustParseAddr(c.gateway)
		}
		if got := fmt.Sprint(allHosts(netip.MustParsePrefix(c.cidr), gateway)); got != c.want {
			t.Errorf("%s without %s: %s, want %s", c.cidr, c.gateway, got, c.want)
		}
	}
}
