package maps

import (
	"fmt"
	"strings"

	"qlbaas/bpf"
)

// DropReason says why a packet ended in a program. Its name is what the outside
// sees: enum drop_reason in lower case, without the prefix.
type DropReason uint32

// Verdict says what became of a packet that went on.
type Verdict uint32

// Event is worth a count, but does not decide what becomes of a packet.
type Event uint32

// dropNames follows enum drop_reason; a test compares it with the object's BTF.
var dropNames = [bpf.Lb4DropReasonDROP_MAX]string{
	bpf.Lb4DropReasonDROP_NONE:           "none",
	bpf.Lb4DropReasonDROP_TRUNC_L3:       "trunc_l3",
	bpf.Lb4DropReasonDROP_TRUNC_L4:       "trunc_l4",
	bpf.Lb4DropReasonDROP_L2BCAST:        "l2_bcast",
	bpf.Lb4DropReasonDROP_IP_VER:         "ip_ver",
	bpf.Lb4DropReasonDROP_IP_IHL:         "ip_ihl",
	bpf.Lb4DropReasonDROP_IP_LEN:         "ip_len",
	bpf.Lb4DropReasonDROP_FRAG:           "frag",
	bpf.Lb4DropReasonDROP_MARTIAN:        "martian",
	bpf.Lb4DropReasonDROP_SPOOF_SELF:     "spoof_self",
	bpf.Lb4DropReasonDROP_PORT0:          "port0",
	bpf.Lb4DropReasonDROP_TTL:            "ttl",
	bpf.Lb4DropReasonDROP_TCP_DOFF:       "tcp_doff",
	bpf.Lb4DropReasonDROP_TCP_FLAGS:      "tcp_flags",
	bpf.Lb4DropReasonDROP_NAT_NOMAP:      "nat_nomap",
	bpf.Lb4DropReasonDROP_NO_ENTRY:       "no_entry",
	bpf.Lb4DropReasonDROP_BAD_ACK:        "bad_ack",
	bpf.Lb4DropReasonDROP_CONN_LIMIT:     "conn_limit",
	bpf.Lb4DropReasonDROP_NO_MEMBER:      "no_member",
	bpf.Lb4DropReasonDROP_NAT_FULL:       "nat_full",
	bpf.Lb4DropReasonDROP_FLOWS_FULL:     "flows_full",
	bpf.Lb4DropReasonDROP_HALF_OPEN_FULL: "half_open_full",
	bpf.Lb4DropReasonDROP_NO_ROUTE:       "no_route",
	bpf.Lb4DropReasonDROP_TOO_BIG:        "too_big",
	bpf.Lb4DropReasonDROP_DRAINED:        "drained",
	bpf.Lb4DropReasonDROP_INTERNAL:       "internal",
	bpf.Lb4DropReasonDROP_ICMP_TYPE:      "icmp_type",
	bpf.Lb4DropReasonDROP_ICMP_INNER:     "icmp_inner",
	bpf.Lb4DropReasonDROP_ICMP_MTU:       "icmp_mtu",
	bpf.Lb4DropReasonDROP_ICMP_NOMAP:     "icmp_nomap",
	bpf.Lb4DropReasonDROP_ICMP_CSUM:      "icmp_csum",
	bpf.Lb4DropReasonDROP_ICMP_SEQ:       "icmp_seq",
	bpf.Lb4DropReasonDROP_UDP_LEN:        "udp_len",
	bpf.Lb4DropReasonDROP_V6EXT:          "v6_ext",
	bpf.Lb4DropReasonDROP_SYN_COOKIE:     "syn_cookie",
	bpf.Lb4DropReasonDROP_IP_OPTS:        "ip_opts",
	bpf.Lb4DropReasonDROP_PORT_TAKEN:     "port_taken",
}

var verdictNames = [bpf.Lb4VerdictVERDICT_MAX]string{
	bpf.Lb4VerdictVERDICT_FORWARDED: "forwarded",
	bpf.Lb4VerdictVERDICT_PASSED:    "passed",
	bpf.Lb4VerdictVERDICT_ANSWERED:  "answered",
}

// eventNames follows enum event.
var eventNames = [bpf.Lb4EventEVENT_MAX]string{
	bpf.Lb4EventEVENT_ARP_CONFLICT:    "arp_conflict",
	bpf.Lb4EventEVENT_NAT_PRESSURE:    "nat_pressure",
	bpf.Lb4EventEVENT_COOKIE_ACCEPTED: "cookie_accepted",
	bpf.Lb4EventEVENT_OUTSIDE:         "outside",
}

// stateNames follows enum flow_state, by bit.
var stateNames = [...]string{
	"member_side", "timestamps", "syn_ack", "fin_client", "fin_member", "closed", "dead", "reset", "cookie",
}

// String returns the reason's name, "drop_<n>" for one that this version does not know.
func (r DropReason) String() string {
	if int(r) < len(dropNames) {
		return dropNames[r]
	}
	return fmt.Sprintf("drop_%d", uint32(r))
}

// String returns the verdict's name, "verdict_<n>" for one that this version does
// not know.
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("verdict_%d", uint32(v))
}

// String returns the event's name, "event_<n>" for one that this version does not know.
func (e Event) String() string {
	if int(e) < len(eventNames) {
		return eventNames[e]
	}
	return fmt.Sprintf("event_%d", uint32(e))
}

// DropReasons returns the names of all reasons for which a packet can end.
func DropReasons() []string { return append([]string(nil), dropNames[1:]...) }

// Verdicts returns the names of all verdicts.
func Verdicts() []string { return append([]string(nil), verdictNames[:]...) }

// Events returns the names of all events.
func Events() []string { return append([]string(nil), eventNames[:]...) }

// String joins the names of the bits that are set with "|"; "open" without any.
func (s FlowState) String() string {
	var set []string
	for bit, name := range stateNames {
		if s&(1<<bit) != 0 {
			set = append(set, name)
			s &^= 1 << bit
		}
	}
	if s != 0 {
		set = append(set, fmt.Sprintf("%#x", uint32(s)))
	}
	if set == nil {
		return "open"
	}
	return strings.Join(set, "|")
}

// String returns the protocol's name.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	}
	return fmt.Sprintf("proto_%d", uint8(p))
}

// String returns the method's name in the API's spelling.
func (m Method) String() string {
	switch m {
	case RoundRobin:
		return "ROUND_ROBIN"
	case LeastConnections:
		return "LEAST_CONNECTIONS"
	case SourceIP:
		return "SOURCE_IP"
	}
	return fmt.Sprintf("METHOD_%d", uint32(m))
}
