package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"qlbaas/tests/lab"
)

// options of a demo.
type options struct {
	keep bool
	hook string
}

// demo is one performance.
type demo struct {
	teller
	options options
	place   place
	exe     string // this program
	log     *os.File

	lab   *lab.Lab
	net   *lab.Tutorial
	webs  map[string]*web // by the member's name
	agent *lab.Process

	networkID, poolID, vipID, portID, monitorID string

	memberIDs map[string]string // by the member's name

	// completed counts the connections to the VIP whose handshake the client has
	// seen complete.
	completed int
}

// chapter is one part of the story.
type chapter struct {
	title string
	play  func(*demo, context.Context) error
}

// lastChapter is not played where everything is to be kept.
const lastChapter = "Everything is deleted"

// chapters is the story.
func chapters() []chapter {
	return []chapter{
		{"The network", (*demo).build},
		{"A network, a subnet, a pool", (*demo).createPool},
		{"A VIP with SOURCE_IP persistence", (*demo).createVIP},
		{"Two members", (*demo).createMembers},
		{"A health monitor", (*demo).createMonitor},
		{"Requests: a client stays with its member", (*demo).askPersistent},
		{"No persistence: strictly in turn", (*demo).askInTurn},
		{"A look inside", (*demo).lookInside},
		{"A member in trouble", (*demo).troubleMember},
		{"1,000 requests, 50 changes, two kills", (*demo).changeUnderLoad},
		{"What carries the traffic", (*demo).detach},
		{"A cookie of the balancer's", (*demo).ownCookie},
		{"A cookie of the application's", (*demo).applicationCookie},
		{"A floating IP", (*demo).floatingIP},
		{lastChapter, (*demo).deleteAll},
	}
}

// overall bounds a whole demo, should ever a bound of a step be missing.
const overall = 5 * time.Minute

// play performs the story and cleans up after it, however it ends.
func play(ctx context.Context, env Env, o options, story []chapter) (err error) {
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	// A closed terminal or pipe must not end the process before it has cleaned up.
	ctx, stop := signal.NotifyContext(ctx, unix.SIGHUP, unix.SIGPIPE)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, overall)
	defer cancel()
	d := &demo{
		teller: teller{env.Stdout}, options: o, place: newPlace(placeDir),
		webs: map[string]*web{}, memberIDs: map[string]string{},
	}
	if d.exe, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	found, err := clean(d.place)
	if err != nil {
		return err
	}
	if found {
		d.say("What an earlier demo had left standing is removed.")
	}
	began := time.Now()
	// Deferred, so that it happens after a panic, too.
	ended := errors.New("the demo has broken off")
	defer func() { err = errors.Join(err, d.end(ended)) }()
	ended = d.perform(ctx, story)
	if ended == nil {
		d.printf("\nThe story went as told, in %s.\n", since(began))
	}
	return ended
}

// errInterrupted says that the demo ends because somebody wants it to.
var errInterrupted = errors.New("interrupted")

// perform plays the chapters. What differs from the story is an error that names the
// chapter.
func (d *demo) perform(ctx context.Context, story []chapter) error {
	for i, c := range story {
		if d.options.keep && c.title == lastChapter {
			break
		}
		d.chapter(i, c.title)
		err := c.play(d, ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("%w in chapter %d: %w", errInterrupted, i, context.Cause(ctx))
		}
		if err != nil {
			return fmt.Errorf("chapter %d (%s) differs from the story: %w", i, c.title, err)
		}
	}
	return nil
}

// end leaves everything standing or removes it. After a failure it shows first what
// explains it.
func (d *demo) end(story error) error {
	if story != nil && !errors.Is(story, errInterrupted) {
		d.tellLog()
	}
	defer d.closeLog()
	if d.options.keep {
		if d.lab != nil {
			d.tellKept()
			return d.lab.Release()
		}
		return nil
	}
	var errs []error
	if d.lab != nil {
		errs = append(errs, d.lab.Close())
	}
	_, err := clean(d.place)
	return errors.Join(append(errs, err)...)
}

func (d *demo) closeLog() {
	if d.log != nil {
		_ = d.log.Close() // written by others
	}
}

// since is a duration that a person reads.
func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }
