package edge

import (
	"fmt"
	"strings"
)

// questions are the requests of the corpus. 400 stands for what is malformed,
// 501 for what is well formed and not understood.
func questions() []question {
	var list []question
	add := func(q question) { list = append(list, q) }
	sent := func(name, in string) { add(question{name: name, in: in}) }                                 // forwarded as it was sent
	as := func(name, in, want string) { add(question{name: name, in: in, want: want}) }                 // forwarded in other words
	last := func(name, in, want string) { add(question{name: name, in: in, want: want, closes: true}) } // and the connection ends
	no := func(name string, status int, in string) { add(question{name: name, in: in, status: status}) }
	body := func(name string, in string) { add(question{name: name, in: in, status: 400, late: true}) }

	const (
		get     = "GET / HTTP/1.1\r\nHost: a\r\n"
		post    = "POST / HTTP/1.1\r\nHost: a\r\n"
		chunked = post + "Transfer-Encoding: chunked\r\n\r\n"
		hello   = "Content-Length: 5\r\n\r\nhello"
	)

	// --- what is plain
	sent("plain", get+"\r\n")
	sent("a query", "GET /x?y=z&a HTTP/1.1\r\nHost: a\r\n\r\n")
	sent("a length", post+hello)
	sent("a length of nothing", post+"Content-Length: 0\r\n\r\n")
	sent("a length with leading zeros", post+"Content-Length: 0005\r\n\r\nhello")
	evil := "GET /evil HTTP/1.1\r\nHost: a\r\n\r\n"
	sent("a body that looks like a request", post+fmt.Sprintf("Content-Length: %d\r\n\r\n", len(evil))+evil)
	sent("GET with a body", get+hello)
	sent("DELETE with a body", "DELETE /x HTTP/1.1\r\nHost: a\r\n"+hello)
	add(question{name: "HEAD", in: "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", got: plainAnswer[:len(plainAnswer)-2]})
	add(question{name: "HEAD with a body", in: "HEAD / HTTP/1.1\r\nHost: a\r\n" + hello, got: plainAnswer[:len(plainAnswer)-2]})
	sent("POST without a length", post+"\r\n")
	sent("a body of 30 KB", post+"Content-Length: 30000\r\n\r\n"+strings.Repeat("0123456789", 3000))
	sent("a body with every byte", post+"Content-Length: 256\r\n\r\n"+everyByte())

	// --- chunks
	sent("a chunk", chunked+"5\r\nhello\r\n0\r\n\r\n")
	sent("no chunk", chunked+"0\r\n\r\n")
	sent("many chunks", chunked+strings.Repeat("1\r\nx\r\n", 20)+"0\r\n\r\n")
	sent("upper case digits", chunked+"A\r\n0123456789\r\n0\r\n\r\n")
	sent("lower case digits", chunked+"a\r\n0123456789\r\n0\r\n\r\n")
	sent("a size with leading zeros", chunked+"0005\r\nhello\r\n0\r\n\r\n")
	sent("a last chunk of many zeros", chunked+"5\r\nhello\r\n0000\r\n\r\n")
	sent("chunks that look like a request", chunked+"16\r\nGET /evil HTTP/1.1\r\n\r\n\r\n0\r\n\r\n")
	sent("CHUNKED", post+"Transfer-Encoding: CHUNKED\r\n\r\n1\r\nx\r\n0\r\n\r\n")
	sent("tabs around chunked", post+"Transfer-Encoding:\tchunked\t\r\n\r\n1\r\nx\r\n0\r\n\r\n")
	sent("a large chunk", chunked+"7530\r\n"+strings.Repeat("0123456789", 3000)+"\r\n0\r\n\r\n")
	sent("GET with chunks", get+"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")
	sent("an extension", chunked+"5;a\r\nhello\r\n0\r\n\r\n")
	sent("an extension with a value", chunked+"5;a=b\r\nhello\r\n0;c=d\r\n\r\n")
	sent("an extension in quotes", chunked+"5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n")
	sent("a trailer", chunked+"0\r\nX-Sum: 1\r\n\r\n")
	sent("two trailers", post+"Trailer: A, B\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nA: 1\r\nB:\r\n\r\n")
	sent("a trailer of a client's own", chunked+"0\r\nX-Host: b\r\n\r\n")
	for _, c := range []struct{ name, in string }{
		{"a chunk that ends with LF", "5\nhello\r\n0\r\n\r\n"},
		{"data that ends with LF", "5\r\nhello\n0\r\n\r\n"},
		{"a last line that ends with LF", "5\r\nhello\r\n0\r\n\n"},
		{"a last chunk that ends with LF", "5\r\nhello\r\n0\n\r\n"},
		{"a chunk that ends with CR", "5\rhello\r\n0\r\n\r\n"},
		{"a chunk without a size", "\r\nhello\r\n0\r\n\r\n"},
		{"a negative size", "-5\r\nhello\r\n0\r\n\r\n"},
		{"a positive size", "+5\r\nhello\r\n0\r\n\r\n"},
		{"a size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"},
		{"a size after a space", " 5\r\nhello\r\n0\r\n\r\n"},
		{"a size before a space", "5 \r\nhello\r\n0\r\n\r\n"},
		{"a size before a tab", "5\t\r\nhello\r\n0\r\n\r\n"},
		{"a size with a space within", "0 5\r\nhello\r\n0\r\n\r\n"},
		{"a size of letters", "g\r\nhello\r\n0\r\n\r\n"},
		{"a size with a comma", "5,5\r\nhello\r\n0\r\n\r\n"},
		{"a size with an underscore", "0_5\r\nhello\r\n0\r\n\r\n"},
		{"a size of sixteen digits", "FFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"},
		{"a size that becomes 5 in 64 bits", "10000000000000005\r\nhello\r\n0\r\n\r\n"},
		{"a size that becomes 5 in 32 bits, too long", "0000000000000000000000000000000100000005\r\nhello\r\n0\r\n\r\n"},
		{"a size of sixteen zeros and more", "0000000000000005\r\nhello\r\n0\r\n\r\n"},
		{"more data than the size", "4\r\nhello\r\n0\r\n\r\n"},
		{"less data than the size", "6\r\nhello\r\n0\r\n\r\n"},
		{"a space before an extension", "5 ;a\r\nhello\r\n0\r\n\r\n"},
		{"an extension that ends with LF", "5;a\nhello\r\n0\r\n\r\n"},
		{"an extension with LF in it", "5;a\nb\r\nhello\r\n0\r\n\r\n"},
		{"an extension with CR in it", "5;a\rb\r\nhello\r\n0\r\n\r\n"},
		{"an extension with NUL in it", "5;a\x00\r\nhello\r\n0\r\n\r\n"},
		{"an extension with LF in quotes", "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n"},
		{"an extension of 300 bytes", "5;" + strings.Repeat("x", 300) + "\r\nhello\r\n0\r\n\r\n"},
		{"a NUL after the size", "5\x00\r\nhello\r\n0\r\n\r\n"},
		{"an empty line between chunks", "5\r\nhello\r\n\r\n0\r\n\r\n"},
		{"a trailer with a space before the colon", "0\r\nX : y\r\n\r\n"},
		{"a trailer without a colon", "0\r\nX\r\n\r\n"},
		{"a trailer without a name", "0\r\n: y\r\n\r\n"},
		{"a folded trailer", "0\r\nX: y\r\n z\r\n\r\n"},
		{"a trailer that ends with LF", "0\r\nX: y\n\r\n"},
		{"a trailer with NUL", "0\r\nX: \x00\r\n\r\n"},
		{"a trailer with CR", "0\r\nX: a\rb\r\n\r\n"},
		{"trailers of 9 KB", "0\r\n" + strings.Repeat("X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n", 130) + "\r\n"},
		{"Content-Length as a trailer", "0\r\nContent-Length: 5\r\n\r\n"},
		{"Transfer-Encoding as a trailer", "0\r\ntransfer-encoding: chunked\r\n\r\n"},
		{"Host as a trailer", "0\r\nHost: b\r\n\r\n"},
		{"Connection as a trailer", "0\r\nConnection: close\r\n\r\n"},
		{"Upgrade as a trailer", "0\r\nUpgrade: x\r\n\r\n"},
		{"Expect as a trailer", "0\r\nExpect: 100-continue\r\n\r\n"},
		{"TE as a trailer", "0\r\nTE: chunked\r\n\r\n"},
		{"Keep-Alive as a trailer", "0\r\nKeep-Alive: timeout=1\r\n\r\n"},
		{"X-Forwarded-For as a trailer", "0\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"},
		{"X-Forwarded-Proto as a trailer", "0\r\nX-Forwarded-Proto: https\r\n\r\n"},
		{"X-Real-IP as a trailer", "0\r\nX-Real-IP: 1.1.1.1\r\n\r\n"},
		{"Proxy-Authorization as a trailer", "0\r\nProxy-Authorization: x\r\n\r\n"},
		{"a second trailer that is not one", "0\r\nA: 1\r\nContent-Length: 1\r\n\r\n"},
	} {
		body(c.name, chunked+c.in)
	}

	// --- two ways of saying how long a body is
	no("CL.TE", 400, post+"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG")
	no("TE.CL", 400, post+"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n")
	no("CL.TE without a body", 400, post+"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	for _, te := range []struct {
		name, lines string
		status      int
	}{
		{"xchunked", "Transfer-Encoding: xchunked", 501},
		{"chunkedx", "Transfer-Encoding: chunkedx", 501},
		{"identity", "Transfer-Encoding: identity", 501},
		{"gzip", "Transfer-Encoding: gzip", 501},
		{"gzip before chunked", "Transfer-Encoding: gzip, chunked", 501},
		{"gzip after chunked", "Transfer-Encoding: chunked, gzip", 501},
		{"chunked twice in a line", "Transfer-Encoding: chunked, chunked", 501},
		{"chunked before a comma", "Transfer-Encoding: chunked,", 501},
		{"chunked after a comma", "Transfer-Encoding: , chunked", 501},
		{"chunked with a parameter", "Transfer-Encoding: chunked;a=b", 501},
		{"chunked in quotes", "Transfer-Encoding: \"chunked\"", 501},
		{"chunked in single quotes", "Transfer-Encoding: 'chunked'", 501},
		{"chunked of two words", "Transfer-Encoding: chunked foo", 501},
		{"chunked with a long s", "Transfer-Encoding: chun\xc5\xbfked", 501},
		{"chunked with a Kelvin sign", "Transfer-Encoding: chun\xe2\x84\xaaed", 501},
		{"chunked after a no-break space", "Transfer-Encoding: \xa0chunked", 501},
		{"no coding", "Transfer-Encoding:", 400},
		{"no coding but a space", "Transfer-Encoding: ", 400},
		{"chunked in two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400},
		{"chunked, then identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400},
		{"chunked, then cow", "Transfer-Encoding: chunked\r\nTransfer-encoding: cow", 400},
		{"identity, then chunked", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", 501},
		{"chunked after VT", "Transfer-Encoding: \x0bchunked", 400},
		{"chunked after FF", "Transfer-Encoding: \x0cchunked", 400},
		{"chunked after BS", "Transfer-Encoding: \x08chunked", 400},
		{"chunked after NUL", "Transfer-Encoding: \x00chunked", 400},
		{"chunked before NUL", "Transfer-Encoding: chunked\x00", 400},
		{"chunked before CR", "Transfer-Encoding: chunked\r", 400},
		{"chunked after CR", "Transfer-Encoding: \rchunked", 400},
		{"chunked before VT", "Transfer-Encoding: chunked\x0b", 400},
		{"a space before the colon of the coding", "Transfer-Encoding : chunked", 400},
		{"a tab before the colon of the coding", "Transfer-Encoding\t: chunked", 400},
		{"NUL before the colon of the coding", "Transfer-Encoding\x00: chunked", 400},
		{"CR before the colon of the coding", "Transfer-Encoding\r: chunked", 400},
		{"a space before the coding's name", " Transfer-Encoding: chunked", 400},
		{"a tab before the coding's name", "\tTransfer-Encoding: chunked", 400},
		{"a folded coding", "Transfer-Encoding:\r\n chunked", 400},
		{"a coding folded with a tab", "Transfer-Encoding:\r\n\tchunked", 400},
		{"a coding behind a folded field", "X: a\r\n Transfer-Encoding: chunked", 400},
		{"a coding behind LF", "X: a\nTransfer-Encoding: chunked", 400},
		{"a coding behind CR", "X: a\rTransfer-Encoding: chunked", 400},
		{"a coding without a colon", "Transfer-Encoding chunked", 400},
		{"a coding with two colons", "Transfer-Encoding:: chunked", 501},
		{"a coding and a nominated coding", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", 400},
		{"a coding with a BOM", "\xef\xbb\xbfTransfer-Encoding: chunked", 400},
	} {
		no(te.name, te.status, post+te.lines+"\r\n\r\n0\r\n\r\n")
	}
	sent("a field that is almost the coding", post+"Transfer_Encoding: chunked\r\n"+hello)
	sent("another field that is almost the coding", post+"X-Transfer-Encoding: chunked\r\n"+hello)
	sent("Content-Encoding is not our business", post+"Content-Encoding: chunked\r\n"+hello)
	for _, v := range []string{
		"+5", "-5", "5 ", "5,5", "5, 5", "5;5", "5.0", "5e0", "0x5", "0b101", "5 5", "five", "", " ", "\"5\"", "5\x00", "\x005", "5\r", "\x0b5", "5\x0c", "\xa05", "\xd9\xa5",
		"9223372036854775807", "9223372036854775808", "18446744073709551621", "99999999999999999999", "4294967301000000000", "-0", "+0", "5\t5", "_5", "5_0", "05h", "５",
	} {
		if v == "5 " {
			sent("a length before a space", post+"Content-Length: 5 \r\n\r\nhello")
			continue
		}
		no(fmt.Sprintf("a length of %q", v), 400, post+"Content-Length: "+v+"\r\n\r\nhello")
	}
	no("two lengths", 400, post+"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")
	no("one length twice", 400, post+"Content-Length: 5\r\n"+hello)
	no("a length twice, once of nothing", 400, post+"Content-Length: 0\r\n"+hello)
	no("a length in two cases", 400, post+"content-length: 0\r\n"+hello)
	no("a length with a space before the colon", 400, post+"Content-Length : 5\r\n\r\nhello")
	no("a length with a tab before the colon", 400, post+"Content-Length\t: 5\r\n\r\nhello")
	no("a folded length", 400, post+"Content-Length:\r\n 5\r\n\r\nhello")
	no("a length folded behind", 400, post+"Content-Length: 5\r\n 0\r\n\r\nhello")
	no("a length behind LF", 400, post+"X: a\nContent-Length: 5\r\n\r\nhello")
	no("a nominated length", 400, post+"Connection: Content-Length\r\n"+hello)
	no("a length nominated behind it", 400, post+"Content-Length: 5\r\nConnection: close, content-length\r\n\r\nhello")
	sent("a length with tabs around", post+"Content-Length:\t5\t\r\n\r\nhello")
	sent("a length right behind the colon", post+"Content-Length:5\r\n\r\nhello")
	sent("a field that is almost the length", post+"Content_Length: 9\r\n"+hello)
	sent("another field that is almost the length", post+"X-Content-Length: 9\r\n"+hello)

	// --- lines
	no("LF", 400, "GET / HTTP/1.1\nHost: a\n\n")
	no("LF behind the request line", 400, "GET / HTTP/1.1\nHost: a\r\n\r\n")
	no("LF behind a field", 400, "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n")
	no("LF at the end", 400, "GET / HTTP/1.1\r\nHost: a\r\n\n")
	no("LF LF in a value", 400, get+"X: a\n\nGET /evil HTTP/1.1\r\n\r\n")
	no("CR CR LF", 400, "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n")
	no("CR in a value", 400, get+"X: a\rb\r\n\r\n")
	no("CR at the end of a value", 400, get+"X: a\r\r\n\r\n")
	no("CR alone on a line", 400, get+"\r\r\n\r\n")
	no("CR between requests", 400, "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n")
	no("LF before a request", 400, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
	as("an empty line before a request", "\r\n"+get+"\r\n", get+"\r\n")
	no("two empty lines before a request", 400, "\r\n\r\n"+get+"\r\n")
	no("a space before a request", 400, " "+get+"\r\n")
	no("a tab before a request", 400, "\t"+get+"\r\n")
	no("NUL before a request", 400, "\x00"+get+"\r\n")
	no("a BOM before a request", 400, "\xef\xbb\xbf"+get+"\r\n")
	no("a folded field", 400, get+"X: a\r\n b\r\n\r\n")
	no("a field folded with a tab", 400, get+"X: a\r\n\tb\r\n\r\n")
	no("a folded first field", 400, "GET / HTTP/1.1\r\n Host: a\r\n\r\n")
	no("a line of spaces", 400, get+"  \r\n\r\n")
	no("a fold at the end", 400, get+"X: a\r\n \r\n\r\n")
	no("a folded Host", 400, "GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n")
	for c := 0; c < 256; c++ {
		if c == '\t' || c == '\r' || c == '\n' || c >= 0x20 && c != 0x7f {
			continue
		}
		no(fmt.Sprintf("byte %#02x in a value", c), 400, get+"X: abcdefgh"+string([]byte{byte(c)})+"ijk\r\n\r\n")
	}
	sent("high bytes in a value", get+"X: \x80\xff \xc3\xa4\r\n\r\n")
	sent("a tab in a value", get+"X: a\tb\r\n\r\n")
	sent("an empty value", get+"X:\r\nY: \r\n\r\n")
	sent("spaces around a value", get+"X:  \t a \t \r\n\r\n")
	sent("all kinds of a value", get+"X: !\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~\r\n\r\n")
	for _, c := range []byte(" \t\x00\x01\x7f\x80\xff\"(),/;<=>?@[\\]{}\r") {
		b := string([]byte{byte(c)})
		no(fmt.Sprintf("byte %#02x in a name", byte(c)), 400, get+"X"+b+"Y: z\r\n\r\n")
	}
	sent("all kinds of a name", get+"!#$%&'*+-.^_`|~09AZaz: x\r\n\r\n")
	no("a field without a name", 400, get+": x\r\n\r\n")
	no("a field without a colon", 400, get+"X\r\n\r\n")
	no("a space before a colon", 400, get+"X : y\r\n\r\n")
	no("a tab before a colon", 400, get+"X\t: y\r\n\r\n")
	no("a second request line", 400, get+"GET /evil HTTP/1.1\r\n\r\n")
	sent("a name of 1000 bytes", get+strings.Repeat("n", 1000)+": x\r\n\r\n")
	sent("the same field twice", get+"X: 1\r\nX: 2\r\nx: 3\r\n\r\n")
	sent("a hundred fields", get+strings.Repeat("X: y\r\n", 100)+"\r\n")
	no("too many fields", 431, get+strings.Repeat("X: y\r\n", 130)+"\r\n")
	no("a head that is too large", 431, get+"X: "+strings.Repeat("x", 20<<10)+"\r\n\r\n")
	no("many fields that are too large", 431, get+strings.Repeat("X: "+strings.Repeat("x", 1000)+"\r\n", 20)+"\r\n")
	no("a target that is too long", 414, "GET /"+strings.Repeat("x", 20<<10)+" HTTP/1.1\r\nHost: a\r\n\r\n")
	sent("a target of 8 KB", "GET /"+strings.Repeat("x", 8<<10)+" HTTP/1.1\r\nHost: a\r\n\r\n")

	// --- the request line
	no("two spaces before the target", 400, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n")
	no("two spaces behind the target", 400, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n")
	no("a tab before the target", 400, "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n")
	no("a tab behind the target", 400, "GET /\tHTTP/1.1\r\nHost: a\r\n\r\n")
	no("a space in the target", 400, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n")
	no("a version in the target", 400, "GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n")
	no("a space behind the version", 400, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n")
	no("no target", 400, "GET HTTP/1.1\r\nHost: a\r\n\r\n")
	no("an empty target", 400, "GET  HTTP/1.1\r\nHost: a\r\n\r\n")
	no("no method", 400, " / HTTP/1.1\r\nHost: a\r\n\r\n")
	no("only a version", 400, "HTTP/1.1\r\nHost: a\r\n\r\n")
	no("HTTP/0.9", 400, "GET /\r\n\r\n")
	no("HTTP/0.9 in words", 505, "GET / HTTP/0.9\r\nHost: a\r\n\r\n")
	no("HTTP/2.0", 505, "GET / HTTP/2.0\r\nHost: a\r\n\r\n")
	no("HTTP/3.0", 505, "GET / HTTP/3.0\r\nHost: a\r\n\r\n")
	no("HTTP/1.2", 505, "GET / HTTP/1.2\r\nHost: a\r\n\r\n")
	for _, v := range []string{"HTTP/1", "HTTP/1.", "HTTP/.1", "HTTP/1.10", "HTTP/01.1", "HTTP/1.1.1", "http/1.1", "Http/1.1", "HTTP 1.1", "HTTP/1,1", "HTTP/1.1\x00", "HTTP/x.1", "HTTPS/1.1", "ICAP/1.0", "HTTP/\xd9\xa1.1", "HTTP/+1.1", "HTTP/1.-1"} {
		no(fmt.Sprintf("version %q", v), 400, "GET / "+v+"\r\nHost: a\r\n\r\n")
	}
	sent("a method in lower case", "get / HTTP/1.1\r\nHost: a\r\n\r\n")
	sent("a method of one's own", "M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n")
	sent("a method of marks", "!#$%&'*+-.^_`|~ / HTTP/1.1\r\nHost: a\r\n\r\n")
	sent("PROPFIND", "PROPFIND / HTTP/1.1\r\nHost: a\r\nDepth: 1\r\n\r\n")
	sent("TRACE", "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n")
	sent("PRI is not HTTP/2 alone", "PRIME / HTTP/1.1\r\nHost: a\r\n\r\n")
	no("a method of 40 bytes", 400, strings.Repeat("M", 40)+" / HTTP/1.1\r\nHost: a\r\n\r\n")
	for _, m := range []string{"G(T", "G\"T", "G,T", "G/T", "G:T", "G@T", "G[T", "G\\T", "G{T", "G\x00T", "G\x7fT", "G\xffT"} {
		no(fmt.Sprintf("method %q", m), 400, m+" / HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	no("CONNECT", 501, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n")
	no("CONNECT to a path", 501, "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n")
	no("connect", 400, "connect a:443 HTTP/1.1\r\nHost: a\r\n\r\n")
	no("a target without a slash", 400, "GET a HTTP/1.1\r\nHost: a\r\n\r\n")
	no("a target that is an authority", 400, "GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n")
	no("a target that is a query", 400, "GET ?x HTTP/1.1\r\nHost: a\r\n\r\n")
	no("GET *", 400, "GET * HTTP/1.1\r\nHost: a\r\n\r\n")
	no("OPTIONS **", 400, "OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n")
	sent("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
	for _, p := range []string{"/..", "/../x", "/a/../b", "/./a", "//", "//evil/x", "/a//b", "/%2e%2e/x", "/%2E%2e%2f", "/a%00b", "/%", "/%zz", "/%5c..%5c", "/\\..\\x", "/a;b=c", "/a?b?c", "/?", "/a?b=/../c", "/\xff\xfe", "/\xc3\xa4", "/\"<>^`{|}", "/a:b@c", "/http://b/", "/*"} {
		sent(fmt.Sprintf("target %q", p), "GET "+p+" HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	for _, p := range []string{"/#x", "/a#", "/\x00", "/\x01", "/a\x1f", "/\x7f", "/a\x0bb", "/a\rb", "/a\tb"} {
		no(fmt.Sprintf("target %q", p), 400, "GET "+p+" HTTP/1.1\r\nHost: a\r\n\r\n")
	}

	// --- who is asked
	no("no Host", 400, "GET / HTTP/1.1\r\n\r\n")
	no("no Host but fields", 400, "GET / HTTP/1.1\r\nX: y\r\n\r\n")
	no("two Hosts", 400, get+"Host: b\r\n\r\n")
	no("one Host twice", 400, get+"Host: a\r\n\r\n")
	no("Hosts in two cases", 400, get+"hOST: b\r\n\r\n")
	no("two Hosts apart", 400, get+"X: y\r\nHost: b\r\n\r\n")
	no("a nominated Host", 400, get+"Connection: Host\r\n\r\n")
	no("a space before the colon of Host", 400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n")
	for _, h := range []string{"", " ", "a b", "a/b", "a,b", "a\tb", "a\\b", "u@a", "a:80x", "a:b", "a:80:80", "a:-1", "a:123456", "a#b", "a?b", "http://a", "[::1", "::1", "[g]", "[]", "[::1]x", "[::1]:x", "a\x00", "\xc3\xa4", "a;b", "a=b", "a'b", "<a>", "a^b", "a|b", ":80", strings.Repeat("a", 256)} {
		no(fmt.Sprintf("Host %.20q of %d", h, len(h)), 400, "GET / HTTP/1.1\r\nHost: "+h+"\r\n\r\n")
	}
	for _, h := range []string{"a.b-c_d", "A", "a:80", "a.", "127.0.0.1", "[::1]", "[::1]:80", "[::ffff:1.2.3.4]", "xn--4ca", "a:0", strings.Repeat("a", 255)} {
		sent(fmt.Sprintf("Host %.20q of %d", h, len(h)), "GET / HTTP/1.1\r\nHost: "+h+"\r\n\r\n")
	}
	sent("Host behind other fields", "GET / HTTP/1.1\r\nX: y\r\nHost: a\r\n\r\n")
	sent("HOST", "GET / HTTP/1.1\r\nHOST: a\r\n\r\n")
	as("absolute form", "GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n")
	as("absolute form without a path", "GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	as("absolute form with a query and no path", "GET http://a?x/y HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?x/y HTTP/1.1\r\nHost: a\r\n\r\n")
	as("absolute form of https", "GET https://a/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
	as("absolute form in capitals", "GET HTTP://A/x HTTP/1.1\r\nHost: a\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
	as("absolute form with a port", "GET http://a:80/x HTTP/1.1\r\nHost: a:80\r\n\r\n", "GET /x HTTP/1.1\r\nHost: a:80\r\n\r\n")
	as("absolute form with two slashes", "GET http://a//b HTTP/1.1\r\nHost: a\r\n\r\n", "GET //b HTTP/1.1\r\nHost: a\r\n\r\n")
	as("OPTIONS of a whole server in absolute form", "OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
	as("OPTIONS in absolute form", "OPTIONS http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n")
	no("absolute form of another host", 400, "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n")
	no("absolute form of another port", 400, "GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n")
	no("absolute form with a user", 400, "GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n")
	no("absolute form with a user of our name", 400, "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n")
	no("absolute form without a host", 400, "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n")
	no("absolute form with one slash", 400, "GET http:/a/ HTTP/1.1\r\nHost: a\r\n\r\n")
	no("absolute form without Host", 400, "GET http://a/ HTTP/1.1\r\n\r\n")
	no("absolute form of ftp", 400, "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n")
	no("absolute form of file", 400, "GET file:///etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n")
	no("absolute form with a backslash", 400, "GET http://a\\b/ HTTP/1.1\r\nHost: a\r\n\r\n")
	no("absolute form with a fragment", 400, "GET http://a/#x HTTP/1.1\r\nHost: a\r\n\r\n")

	// --- HTTP/1.0
	last("HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", get+"\r\n")
	last("HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: EDGE\r\n\r\n")
	last("HTTP/1.0 with a body", "POST / HTTP/1.0\r\nHost: a\r\n"+hello, post+hello)
	last("HTTP/1.0 that closes", "GET / HTTP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n", get+"\r\n")
	add(question{name: "HTTP/1.0 that keeps", in: "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", want: get + "\r\n",
		got: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"})
	last("HTTP/1.0 with an upgrade", "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", get+"\r\n")
	last("HTTP/1.0 with an expectation", "POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n"+hello, post+hello)
	no("HTTP/1.0 with chunks", 400, "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	no("HTTP/1.0 with a length and chunks", 400, "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	no("HTTP/1.0 with two Hosts", 400, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n")

	// --- from neighbour to neighbour
	last("Connection: close", get+"Connection: close\r\n\r\n", get+"\r\n")
	last("Connection: Close in a list", get+"Connection: x, Close\r\n\r\n", get+"\r\n")
	last("Connection: close with a body", post+"Connection: close\r\n"+hello, post+hello)
	last("close and keep-alive", get+"Connection: keep-alive, close\r\n\r\n", get+"\r\n")
	as("Connection: keep-alive", get+"Connection: keep-alive\r\n\r\n", get+"\r\n")
	as("an empty Connection", get+"Connection:\r\n\r\n", get+"\r\n")
	as("a Connection of commas", get+"Connection: , ,,\r\n\r\n", get+"\r\n")
	as("a nominated field", get+"X-Mine: 1\r\nConnection: x-mine\r\nY: 2\r\n\r\n", get+"Y: 2\r\n\r\n")
	as("nominated fields in two lines", get+"Connection: A\r\nA: 1\r\nB: 2\r\nConnection: B\r\nC: 3\r\n\r\n", get+"C: 3\r\n\r\n")
	as("a nominated cookie", get+"Connection: Cookie\r\nCookie: a=b\r\n\r\n", get+"\r\n")
	as("a nominated X-Forwarded-For", get+"Connection: X-Forwarded-For\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n", get+"\r\n")
	as("a nominated X-Request-Id", get+"Connection: X-Request-Id\r\nX-Request-Id: mine\r\n\r\n", get+"\r\n")
	as("a nominated Connection", get+"Connection: Connection\r\n\r\n", get+"\r\n")
	as("a nominated field that is not there", get+"Connection: nothing\r\n\r\n", get+"\r\n")
	no("a nominated expectation", 400, post+"Connection: Expect\r\nExpect: 100-continue\r\n"+hello)
	no("too many nominations", 400, get+"Connection: "+strings.Repeat("x,", 40)+"\r\n\r\n")
	as("hop by hop", get+"TE: chunked\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\nProxy-Authenticate: y\r\nX: z\r\n\r\n", get+"X: z\r\n\r\n")
	as("trailers that are understood", get+"TE: trailers, chunked\r\nConnection: TE\r\n\r\n", get+"TE: trailers\r\nConnection: te\r\n\r\n")
	as("Upgrade without Connection", get+"Upgrade: websocket\r\n\r\n", get+"\r\n")
	as("Connection: upgrade without Upgrade", get+"Connection: upgrade\r\n\r\n", get+"\r\n")
	as("h2c", get+"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", get+"\r\n")
	as("h2c without naming its settings", get+"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", get+"\r\n")
	as("H2C", get+"Connection: Upgrade\r\nUpgrade: H2C\r\n\r\n", get+"\r\n")
	as("h2", get+"Connection: Upgrade\r\nUpgrade: h2\r\n\r\n", get+"\r\n")
	as("h2c among others", get+"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n", get+"\r\n")
	as("h2c with a version", get+"Connection: Upgrade\r\nUpgrade: h2c/1\r\n\r\n", get+"\r\n")
	as("an upgrade with a body", post+"Connection: Upgrade\r\nUpgrade: websocket\r\n"+hello, post+hello)
	as("an upgrade with chunks", post+"Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", post+"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	no("two upgrades", 400, get+"Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n\r\n")
	as("an upgrade that is not made", get+"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", get+"Upgrade: websocket\r\nConnection: upgrade\r\n\r\n")

	// --- expectations
	add(question{name: "an expectation", in: post + "Expect: 100-continue\r\n" + hello, got: "HTTP/1.1 100 Continue\r\n\r\n" + plainAnswer})
	add(question{name: "an expectation with chunks", in: post + "Expect: 100-Continue\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", got: "HTTP/1.1 100 Continue\r\n\r\n" + plainAnswer})
	as("an expectation without a body", get+"Expect: 100-continue\r\n\r\n", get+"\r\n")
	as("an expectation with a body of nothing", post+"Expect: 100-continue\r\nContent-Length: 0\r\n\r\n", post+"Content-Length: 0\r\n\r\n")
	no("another expectation", 417, post+"Expect: cake\r\n"+hello)
	no("an expectation of nothing", 417, post+"Expect:\r\n"+hello)
	no("two expectations", 417, post+"Expect: 100-continue, cake\r\n"+hello)

	// --- who says what about whom; the client is on this machine and is believed
	sent("a claim of who it was", get+"X-Forwarded-Proto: https\r\n\r\n")
	sent("a request id", get+"X-Request-Id: mine\r\n\r\n")
	as("two request ids", get+"X-Request-Id: one\r\nX-Request-Id: two\r\n\r\n", get+"X-Request-Id: one\r\n\r\n")
	as("a request id with a space", get+"X-Request-Id: a b\r\n\r\n", get+"\r\n")
	as("a request id of 200 bytes", get+"X-Request-Id: "+strings.Repeat("x", 200)+"\r\n\r\n", get+"\r\n")

	return list
}

func everyByte() string {
	b := make([]byte, 256)
	for k := range b {
		b[k] = byte(k)
	}
	return string(b)
}
