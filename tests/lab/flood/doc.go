// Package flood sends segments that nobody asked for, with sources that nobody owns, as
// fast as one CPU can: what an attacker does.
//
// Their checksums are right and their addresses plausible, so that nothing but the
// target's own judgement keeps them out. A flood ends by its count, its time or Stop,
// whichever comes first, and leaves its host only by the device that it was given.
package flood
