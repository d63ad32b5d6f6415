// Package client is the command line's side of the API: it turns a command and
// its flags into requests, and the answers into tables or JSON.
//
// Flags, positional arguments and the lookup of names are those of the neutron
// command. The server alone judges values: what was typed is sent, numbers and
// booleans in their own type where they are such, so that a mistake is answered
// by the message that names the attribute. Only what would reach nobody is
// refused here: a missing required flag or argument, an empty name.
//
// It talks HTTP to the chosen server, writes to the writers that it is given and
// touches nothing else: no state directory, no kernel, none of our other rooms.
//
// Every kind of object is one table (type resource) in one file, with its
// attributes as flags; the five verbs are written once, in the files create,
// update, show and list.
//
// # Why names are checked twice
//
// A server that ignores a filter answers with every object, and a delete by a
// mistyped name would hit a stranger. Lookup asks for id and name, and takes only
// rows that really carry what was asked for. An empty name is never looked up,
// for an empty filter means no filter.
package client
