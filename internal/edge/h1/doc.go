// Package h1 reads HTTP/1.1 as the edge needs it: message heads, chunked
// framing and WebSocket frame boundaries, over byte slices, without I/O and
// without allocating. It refuses what is doubtful and never repairs: two
// readers that disagree about one message are how requests are smuggled.
// It must not know connections, routes or instances. The edge calls it.
package h1
