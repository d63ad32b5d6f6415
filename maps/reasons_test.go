package maps

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// enumOf reads an enum's values from the object itself, in order.
func enumOf(t *testing.T, name string) []btf.EnumValue {
	t.Helper()
	var enum *btf.Enum
	if err := loadSpec(t).Types.TypeByName(name, &enum); err != nil {
		t.Fatalf("enum %s: %v", name, err)
	}
	if len(enum.Values) == 0 {
		t.Fatalf("enum %s has no values", name)
	}
	return enum.Values
}

// names compares the names of an enum's values with what Go calls them.
func names(t *testing.T, enum, prefix string, name func(uint32) string) {
	t.Helper()
	for _, v := range enumOf(t, enum) {
		want, ours := strings.CutPrefix(v.Name, prefix)
		if !ours {
			t.Errorf("%s in enum %s does not begin with %s", v.Name, enum, prefix)
		}
		if want == "MAX" {
			continue
		}
		if got := name(uint32(v.Value)); got != strings.ToLower(want) {
			t.Errorf("%s = %d is called %q, want %q", v.Name, v.Value, got, strings.ToLower(want))
		}
	}
}

func TestEveryReasonHasItsName(t *testing.T) {
	names(t, "drop_reason", "DROP_", func(v uint32) string { return DropReason(v).String() })
	names(t, "verdict", "VERDICT_", func(v uint32) string { return Verdict(v).String() })
	names(t, "event", "EVENT_", func(v uint32) string { return Event(v).String() })
	names(t, "flow_state", "FLOW_", func(v uint32) string { return FlowState(v).String() })
	names(t, "method", "METHOD_", func(v uint32) string { return strings.ToLower(Method(v).String()) })
}

func TestListsOfNames(t *testing.T) {
	if got, want := len(DropReasons()), len(enumOf(t, "drop_reason"))-2; got != want {
		t.Errorf("%d drop reasons, the enum has %d without NONE and MAX", got, want)
	}
	if got, want := len(Verdicts()), len(enumOf(t, "verdict"))-1; got != want {
		t.Errorf("%d verdicts, the enum has %d without MAX", got, want)
	}
	if got, want := len(Events()), len(enumOf(t, "event"))-1; got != want {
		t.Errorf("%d events, the enum has %d without MAX", got, want)
	}
	seen := make(map[string]bool)
	for _, name := range append(append(DropReasons(), Verdicts()...), Events()...) {
		if name == "" || seen[name] {
			t.Errorf("name %q is empty or there twice", name)
		}
		seen[name] = true
	}
}

func TestUnknownNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{DropReason(999).String(), "drop_999"},
		{Verdict(999).String(), "verdict_999"},
		{Event(999).String(), "event_999"},
		{Method(9).String(), "METHOD_9"},
		{Protocol(41).String(), "proto_41"},
		{FlowState(0).String(), "open"},
		{(FinClient | Closed).String(), "fin_client|closed"},
		{(Reset | 1<<20).String(), "reset|0x100000"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
