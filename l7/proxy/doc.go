// Package proxy moves HTTP/1.0 and 1.1 between clients and the members of a pool. It
// decides nothing about members: a [Picker] does.
//
// A client's connection is a goroutine (client.go). For each request:
//
//	reader.awaitHead ─> request.parse ─> request.passOn ─> Picker.Choose
//	  reader.go           request.go       new head          exchange.go
//	─> upstream.take ─> converse: ask, read the answer ─> response.passOn ─> body
//	     upstream.go       exchange.go     response.go      new head     body.go
//
// Every head is parsed by fasthttp, which refuses what is ambiguous, and written anew:
// no byte of a client's head reaches a member as it was but for values of lines that
// mean nothing to us. Where a head ends is found before it is parsed (awaitHead), and
// parser and finder must agree.
//
// Bodies of known length and tunnels are spliced: they stay in the kernel (body.go).
// Chunked ones are read and written chunk by chunk. A body on its way up has its own
// goroutine (upload.go), because members may answer before it has ended.
//
// # Why it costs what it does
//
// A request of a few bytes costs six system calls and no more than the parser's work in
// between. What keeps it there, each measured, and easily lost in a change:
//
//   - socket.go reads and writes with raw system calls. The runtime's own tell the
//     scheduler, whose monitor thread then wakes every 20 µs and moves work to other
//     threads: a fifth more per request, and worse on a busy machine.
//   - socket.ask sends the question to a member at the moment at which the answer is
//     first looked for.
//   - deadlines move only when they are a second off (reader.until).
//   - head and small body go out in one piece (passage.head).
package proxy
