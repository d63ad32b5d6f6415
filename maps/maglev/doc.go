// Package maglev builds the SOURCE_IP table: a consistent hash table in which a
// member's share of the places is its share of the weights, and in which a change of
// one member moves few places of the others. It is pure: it knows no maps and no
// kernel.
//
// The way is that of Maglev (Eisenbud et al., NSDI 2016): every member prefers the
// places in an order of its own, and members take turns at taking the first of their
// preference that is free. Two things differ:
//
// Weights. A member earns its weight in every round and takes a place whenever it has
// earned the heaviest member's weight. Taking as many places per round as the weight
// says would leave nothing for the last members of a large pool.
//
// Size. A table of another size is another table, in which nearly every client falls
// to another member. So there are only two sizes, and members that are down count
// for the choice: a flap never changes it. The small one keeps shares exact to about
// 1 % up to a sum of weights (divided by their gcd) of 163, in 32 KiB.
package maglev
