package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// object is what the agent answers.
type object map[string]any

// text of an attribute; empty when it is absent or no text.
func (o object) text(key string) string {
	s, _ := o[key].(string)
	return s
}

// number of an attribute; 0 when it is absent or no number.
func (o object) number(key string) int {
	n, _ := o[key].(json.Number)
	i, _ := n.Int64()
	return int(i)
}

// api is what --api and QLBAAS_API take.
func (d *demo) api() string { return "unix://" + d.place.socket }

// qlbaas prints and runs a client command, and returns its output.
func (d *demo) qlbaas(ctx context.Context, words ...string) ([]byte, error) {
	d.typed(append([]string{"qlbaas"}, words...)...)
	return d.quietly(ctx, words...)
}

// quietly runs a client command without printing it.
func (d *demo) quietly(ctx context.Context, words ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, d.exe, words...)
	cmd.Env = append(os.Environ(), "QLBAAS_API="+d.api(), "QLBAAS_API_TOKEN_FILE=")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("run qlbaas %s: %w: %s", shell(words), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// show prints and runs a command that answers one object.
func (d *demo) show(ctx context.Context, words ...string) (object, error) {
	out, err := d.qlbaas(ctx, append(words, "-o", "json")...)
	if err != nil {
		return nil, err
	}
	return decode[object](out)
}

// list prints and runs a command that answers several objects.
func (d *demo) list(ctx context.Context, words ...string) ([]object, error) {
	out, err := d.qlbaas(ctx, append(words, "-o", "json")...)
	if err != nil {
		return nil, err
	}
	return decode[[]object](out)
}

// change prints and runs a command whose answer tells nothing new.
func (d *demo) change(ctx context.Context, words ...string) error {
	_, err := d.qlbaas(ctx, words...)
	return err
}

func decode[T any](text []byte) (v T, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return v, fmt.Errorf("read answer %q: %w", text, err)
	}
	return v, nil
}

// status asks the agent how it is, quietly.
func (d *demo) status(ctx context.Context) (object, error) {
	out, err := d.quietly(ctx, "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	return decode[object](out)
}

// pool returns the demo's pool out of a status.
func (d *demo) pool(status object) object {
	all, _ := status["pools"].([]any)
	for _, one := range all {
		if p, _ := one.(map[string]any); p != nil && p["id"] == d.poolID {
			return p
		}
	}
	return nil
}

// settle waits until pool, VIP and members are as wanted on the node.
func (d *demo) settle(ctx context.Context) error {
	return until(ctx, patience, func() error {
		if err := d.membersSettled(ctx); err != nil {
			return err
		}
		status, err := d.status(ctx)
		if err != nil {
			return fatal(err)
		}
		p := d.pool(status)
		if p.text("state") != "ACTIVE" {
			return fmt.Errorf("pool is %s, want ACTIVE (%v)", p.text("state"), p["last_error"])
		}
		return nil
	})
}

// membersSettled reports a member whose change has not reached the node yet: the pool's
// own state does not wait for its members.
func (d *demo) membersSettled(ctx context.Context) error {
	out, err := d.quietly(ctx, "member", "list", "-o", "json")
	if err != nil {
		return fatal(err)
	}
	members, err := decode[[]object](out)
	if err != nil {
		return fatal(err)
	}
	for _, m := range members {
		if status := m.text("status"); strings.HasPrefix(status, "PENDING") {
			return fmt.Errorf("member %s is %s", m.text("id"), status)
		}
	}
	return nil
}

// memberStatus waits until the API shows the member's status as wanted.
func (d *demo) memberStatus(ctx context.Context, name, want string) error {
	return until(ctx, patience, func() error {
		out, err := d.quietly(ctx, "member", "show", d.memberIDs[name], "-o", "json")
		if err != nil {
			return fatal(err)
		}
		member, err := decode[object](out)
		if err != nil {
			return fatal(err)
		}
		if got := member.text("status"); got != want {
			return fmt.Errorf("member %s is %s, want %s", name, got, want)
		}
		return nil
	})
}
