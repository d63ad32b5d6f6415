// Package cookie knows what a persistence cookie looks like: how its value is made
// (cookie.go), how lines that hold cookies are read and rewritten, and which member an
// application's own cookie belongs to (learned.go). It knows no HTTP beyond those lines
// and no network.
//
// The value is HMAC-SHA256 of the member's id under a key that only the service has. A
// member's id or address in clear would tell everybody how the pool is built, and let
// clients choose their member.
package cookie
