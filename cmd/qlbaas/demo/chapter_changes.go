package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

const (
	wantRequests = 1000
	rounds       = 5
	wantChanges  = 50
)

// changeUnderLoad reconfigures the pool while a crowd asks, and kills the agent
// twice in between. No request may be lost.
func (d *demo) changeUnderLoad(ctx context.Context) error {
	h, err := d.hold(ctx, "WEB2")
	if err != nil {
		return err
	}
	defer h.Close()
	before, err := d.attachments()
	if err != nil {
		return err
	}
	d.say("%d clients ask without end; one more connection, to WEB2, is open all the time.", crowd)
	l := startLoad(ctx, d.client())
	defer l.end()
	err = d.makeChanges(ctx, l)
	if missing := wantRequests - l.asked.Load(); err == nil && missing > 0 {
		err = l.await(ctx, missing)
	}
	l.end()
	d.saw("%d requests during %d changes and 2 kills, %d lost: %s", l.asked.Load(), wantChanges, len(l.lost), tally(l.who))
	d.saw("the slowest took %s", l.slowest.Round(10*time.Microsecond))
	if len(l.lost) > 0 {
		err = errors.Join(err, fmt.Errorf("%d requests were lost, the first: %w", len(l.lost), errors.Join(l.lost[:min(5, len(l.lost))]...)))
	}
	if err != nil {
		return err
	}
	if err := h.mustBe(ctx, "WEB2"); err != nil {
		return err
	}
	d.saw("the open connection has survived all of it")
	after, err := d.attachments()
	if err != nil {
		return err
	}
	if !maps.Equal(before, after) {
		return fmt.Errorf("attached were %v before and are %v: the programs were attached anew", before, after)
	}
	d.saw("attached are %v, as before: nothing was attached anew", numbers(after))
	return d.mustAlternate(ctx)
}

// makeChanges makes wantChanges of them and kills the agent after one and two thirds.
func (d *demo) makeChanges(ctx context.Context, l *load) error {
	made := 0
	for round := range rounds {
		for _, words := range d.round(round) {
			if made == wantChanges/3 || made == 2*wantChanges/3 {
				if err := d.killUnderLoad(ctx, l); err != nil {
					return err
				}
			}
			made++
			l.does(shell(words))
			if err := d.makeChange(ctx, words); err != nil {
				return fmt.Errorf("change %d: %w", made, err)
			}
		}
	}
	if made != wantChanges {
		return fmt.Errorf("%d changes were made, want %d", made, wantChanges)
	}
	return nil
}

// makeChange runs a command, in which a member's name stands for its id, and waits
// until the node is as it wants.
func (d *demo) makeChange(ctx context.Context, words []string) error {
	if words[0] == "member" && words[1] == "create" {
		if err := d.createMember(ctx, d.net.Members[2]); err != nil {
			return err
		}
		return d.settle(ctx)
	}
	for i, w := range words {
		if id := d.memberIDs[w]; id != "" {
			words[i] = id
		}
	}
	if err := d.change(ctx, words...); err != nil {
		return err
	}
	return d.settle(ctx)
}

// round is what an operator changes and undoes in one of the rounds. At every moment
// a member can be chosen.
func (d *demo) round(n int) [][]string {
	weights := [rounds]string{"3", "0", "256", "7", "2"}
	monitor := [rounds][]string{
		{"monitor", "update", d.monitorID, "--delay", "2"},
		{"monitor", "update", d.monitorID, "--url-path", "/health"},
		{"monitor", "disassociate", d.monitorID, poolName},
		{"monitor", "associate", d.monitorID, poolName},
		{"monitor", "update", d.monitorID, "--delay", fmt.Sprint(delaySec), "--url-path", "/"},
	}
	limits := [rounds]string{"5000", "6000", "7000", "8000", "-1"}
	return [][]string{
		{"member", "update", "WEB1", "--weight", weights[n]},
		{"pool", "update", poolName, "--lb-method", "LEAST_CONNECTIONS"},
		{"vip", "update", vipName, "--session-persistence", "type=SOURCE_IP"},
		{"member", "create"}, // WEB3
		monitor[n],
		{"vip", "update", vipName, "--session-persistence", "action=clear", "--connection-limit", limits[n]},
		{"pool", "update", poolName, "--lb-method", "SOURCE_IP"},
		{"member", "delete", "WEB3"},
		{"pool", "update", poolName, "--lb-method", "ROUND_ROBIN"},
		{"member", "update", "WEB1", "--weight", "1"},
	}
}

// killUnderLoad ends the agent without warning, sees that traffic does not mind, and
// starts it again.
func (d *demo) killUnderLoad(ctx context.Context, l *load) error {
	l.does("kill -9")
	d.killAgent()
	begun := l.asked.Load()
	if err := l.await(ctx, 100); err != nil {
		return err
	}
	d.saw("%d requests without an agent", l.asked.Load()-begun)
	l.does("start agent")
	d.tellAgent()
	if err := d.startAgent(ctx); err != nil {
		return err
	}
	d.saw("the agent is back, process %d", d.agent.Pid())
	return nil
}
