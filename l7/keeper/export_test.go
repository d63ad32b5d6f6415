package keeper

import (
	"fmt"
	"time"
)

// RememberEvery sets the pause between two copies of learned cookies.
func (k *Keeper) RememberEvery(d time.Duration) { k.rememberEvery = d }

// Remembers tells whether there is a copy of n learned cookies.
func (k *Keeper) Remembers(poolID string, n int) error {
	p := k.known(poolID)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.learned) != n {
		return fmt.Errorf("%d learned cookies", len(p.learned))
	}
	return nil
}
