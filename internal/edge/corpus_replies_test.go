package edge

import (
	"fmt"
	"strings"
)

// replies are the answers of the corpus.
func replies() []reply {
	var list []reply
	add := func(a reply) { list = append(list, a) }
	same := func(name, out string) { add(reply{name: name, out: out}) }
	as := func(name, out, want string) { add(reply{name: name, out: out, want: want}) }
	bad := func(name, out string) { add(reply{name: name, out: out, shut: true, bad: "malformed_answer"}) }
	const (
		ok      = "HTTP/1.1 200 OK\r\n"
		two     = "Content-Length: 2\r\n\r\nok"
		chunked = ok + "Transfer-Encoding: chunked\r\n\r\n"
		head    = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
		old     = "GET / HTTP/1.0\r\nHost: a\r\n\r\n"
	)

	// --- what is plain
	same("plain", plainAnswer)
	same("fields as they are", ok+"X: a\r\nx: b\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-Empty:\r\n"+two)
	same("a field of 8 KB", ok+"X: "+strings.Repeat("x", 8<<10)+"\r\n"+two)
	same("a body of 50 KB", ok+"Content-Length: 50000\r\n\r\n"+strings.Repeat("0123456789", 5000))
	same("a body with every byte", ok+"Content-Length: 256\r\n\r\n"+everyByte())
	same("no body", ok+"Content-Length: 0\r\n\r\n")
	same("high bytes", "HTTP/1.1 200 \xc3\xa4\r\nX: \xff\r\n"+two)
	same("another reason", "HTTP/1.1 404 Nothing at all\r\n"+two)
	same("no reason", "HTTP/1.1 200 \r\n"+two)
	as("no reason and no space", "HTTP/1.1 200\r\n"+two, "HTTP/1.1 200 \r\n"+two)
	for _, s := range []int{201, 206, 301, 302, 400, 401, 418, 500, 503, 599, 600, 999} {
		same(fmt.Sprint("status ", s), fmt.Sprintf("HTTP/1.1 %d X\r\n%s", s, two))
	}
	same("304", "HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 100\r\n\r\n")
	same("204", "HTTP/1.1 204 No Content\r\nX: y\r\n\r\n")
	as("204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n")
	as("204 with chunks", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n")
	as("hop by hop", ok+"Keep-Alive: timeout=9\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nProxy-Connection: x\r\nUpgrade: h2c\r\n"+two, plainAnswer)
	as("an instance that closes", ok+"Connection: close\r\n"+two, plainAnswer)
	add(reply{name: "an instance of HTTP/1.0", out: "HTTP/1.0 200 OK\r\n" + two, shut: true, want: plainAnswer})
	add(reply{name: "426", out: "HTTP/1.1 426 X\r\nUpgrade: y\r\nConnection: upgrade\r\n" + two, want: "HTTP/1.1 426 X\r\nUpgrade: y\r\nContent-Length: 2\r\nConnection: upgrade\r\n\r\nok"})

	// --- chunks
	same("chunks", chunked+"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n")
	same("no chunk", chunked+"0\r\n\r\n")
	same("an extension", chunked+"5;a=b\r\nhello\r\n0\r\n\r\n")
	same("trailers", chunked+"5\r\nhello\r\n0\r\nX-Sum: 1\r\nServer-Timing: a\r\n\r\n")
	same("a large chunk", chunked+"c350\r\n"+strings.Repeat("0123456789", 5000)+"\r\n0\r\n\r\n")
	add(reply{name: "chunks for HTTP/1.0", in: old, out: chunked + "5\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n", want: ok + "Connection: close\r\n\r\nhello!", end: true})
	add(reply{name: "a body that ends with the connection", out: ok + "\r\n", shut: true, want: chunked + "0\r\n\r\n"})
	add(reply{name: "a body that ends with the connection for HTTP/1.0", in: old, out: ok + "\r\nhello", shut: true, want: ok + "Connection: close\r\n\r\nhello", end: true})

	// --- HEAD
	add(reply{name: "HEAD with a length", in: head, out: ok + "Content-Length: 1000\r\n\r\n"})
	add(reply{name: "HEAD with chunks", in: head, out: ok + "Transfer-Encoding: chunked\r\n\r\n"})
	add(reply{name: "HEAD without either", in: head, out: ok + "\r\n"})
	add(reply{name: "HEAD with a body", in: head, out: ok + two, want: ok + "Content-Length: 2\r\n\r\n"})

	// --- interim answers
	same("103", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"+plainAnswer)
	same("102 twice", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"+plainAnswer)
	same("100 that nobody waits for", "HTTP/1.1 100 Continue\r\n\r\n"+plainAnswer)
	add(reply{name: "103 for HTTP/1.0", in: old, out: "HTTP/1.1 103 Early Hints\r\n\r\n" + plainAnswer, want: closeAnswer, end: true})
	as("103 with a length of nothing", "HTTP/1.1 103 X\r\nContent-Length: 0\r\n\r\n"+plainAnswer, "HTTP/1.1 103 X\r\n\r\n"+plainAnswer)

	// --- more than was announced: it must reach nobody, and not the next request
	as("more than the length", plainAnswer+"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", plainAnswer)
	as("a second answer behind chunks", chunked+"1\r\nx\r\n0\r\n\r\n"+plainAnswer, chunked+"1\r\nx\r\n0\r\n\r\n")
	as("a body behind 304", "HTTP/1.1 304 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "HTTP/1.1 304 X\r\n\r\n")
	as("a body behind 204", "HTTP/1.1 204 X\r\n\r\nevil", "HTTP/1.1 204 X\r\n\r\n")

	// --- what is malformed
	for name, out := range map[string]string{
		"no HTTP":                      "hello\r\n\r\n",
		"a version of 2":               "HTTP/2.0 200 OK\r\n" + two,
		"a version of 1.2":             "HTTP/1.2 200 OK\r\n" + two,
		"a version in lower case":      "http/1.1 200 OK\r\n" + two,
		"no status":                    "HTTP/1.1 OK\r\n" + two,
		"a status of two digits":       "HTTP/1.1 20 OK\r\n" + two,
		"a status of four digits":      "HTTP/1.1 2000 OK\r\n" + two,
		"a status with a sign":         "HTTP/1.1 +20 OK\r\n" + two,
		"a status below 100":           "HTTP/1.1 099 OK\r\n" + two,
		"a status of letters":          "HTTP/1.1 2xx OK\r\n" + two,
		"two spaces before the status": "HTTP/1.1  200 OK\r\n" + two,
		"a tab before the status":      "HTTP/1.1\t200 OK\r\n" + two,
		"LF":                           "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
		"LF behind a field":            ok + "X: y\nContent-Length: 2\r\n\r\nok",
		"LF at the end":                ok + "Content-Length: 2\r\n\nok",
		"CR in the reason":             "HTTP/1.1 200 O\rK\r\n" + two,
		"NUL in the reason":            "HTTP/1.1 200 O\x00K\r\n" + two,
		"an empty line first":          "\r\n" + plainAnswer,
		"two lengths":                  ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok",
		"one length twice":             ok + "Content-Length: 2\r\n" + two,
		"a list of lengths":            ok + "Content-Length: 2, 2\r\n\r\nok",
		"a length with a sign":         ok + "Content-Length: +2\r\n\r\nok",
		"a negative length":            ok + "Content-Length: -1\r\n\r\nok",
		"a length of nothing":          ok + "Content-Length:\r\n\r\nok",
		"a length that is too large":   ok + "Content-Length: 99999999999999999999\r\n\r\nok",
		"a length and chunks":          ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
		"chunks and a length":          ok + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nok",
		"chunked twice":                ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"gzip, chunked":                ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"identity":                     ok + "Transfer-Encoding: identity\r\n\r\nok",
		"xchunked":                     ok + "Transfer-Encoding: xchunked\r\n\r\nok",
		"chunks in HTTP/1.0":           "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"a space before a colon":       ok + "X : y\r\n" + two,
		"a space before the coding's":  ok + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
		"a folded field":               ok + "X: a\r\n b\r\n" + two,
		"a field without a name":       ok + ": a\r\n" + two,
		"a field without a colon":      ok + "X\r\n" + two,
		"NUL in a value":               ok + "X: \x00\r\n" + two,
		"CR in a value":                ok + "X: a\rSet-Cookie: b\r\n" + two,
		"DEL in a value":               ok + "X: \x7f\r\n" + two,
		"a nominated length":           ok + "Connection: Content-Length\r\n" + two,
		"a 101 that nobody asked for":  "HTTP/1.1 101 X\r\nUpgrade: y\r\nConnection: upgrade\r\n\r\n",
		"a 101 without Upgrade":        "HTTP/1.1 101 X\r\n\r\n",
		"103 with a body":              "HTTP/1.1 103 X\r\nContent-Length: 2\r\n\r\nok" + plainAnswer,
		"103 with chunks":              "HTTP/1.1 103 X\r\nTransfer-Encoding: chunked\r\n\r\n" + plainAnswer,
		"interim answers without end":  strings.Repeat("HTTP/1.1 102 X\r\n\r\n", 40) + plainAnswer,
		"too many fields":              ok + strings.Repeat("X: y\r\n", 130) + two,
		"a head of 20 KB":              ok + "X: " + strings.Repeat("x", 20<<10) + "\r\n" + two,
	} {
		if strings.HasPrefix(name, "interim answers") {
			continue // the client has seen some of them: below
		}
		bad(name, out)
	}

	// --- what ends too early: the client must see that
	cut := func(name, out, want string) { add(reply{name: name, out: out, shut: true, want: want, cut: true}) }
	cut("half a body", ok+"Content-Length: 10\r\n\r\nhalf", ok+"Content-Length: 10\r\n\r\nhalf")
	cut("a body of nothing", ok+"Content-Length: 10\r\n\r\n", ok+"Content-Length: 10\r\n\r\n")
	cut("half a chunk", chunked+"a\r\nhalf", chunked+"a\r\nhalf")
	cut("no last chunk", chunked+"4\r\nhalf\r\n", chunked+"4\r\nhalf\r\n")
	cut("half a last chunk", chunked+"4\r\nhalf\r\n0\r\n", chunked+"4\r\nhalf\r\n0\r\n")
	cut("half a trailer", chunked+"4\r\nhalf\r\n0\r\nX: y", chunked+"4\r\nhalf\r\n0\r\nX: y")
	add(reply{name: "half a head", out: ok + "X: y\r\n", shut: true, bad: "reset"})
	add(reply{name: "a byte", out: "H", shut: true, bad: "reset"})
	return list
}
