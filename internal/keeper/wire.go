package keeper

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"syscall"

	"gapless"
)

const (
	maxLine  = 8 << 20 // bytes of one request or answer; a 4 MiB blob in base64 fits
	maxValue = 4 << 20 // bytes of one blob
	maxKeys  = 16
)

const (
	opHello     = "hello"
	opListen    = "listen"
	opUnlisten  = "unlisten"
	opListener  = "listener"
	opListeners = "listeners"
	opStart     = "start"
	opSignal    = "signal"
	opList      = "list"
	opForget    = "forget"
	opWatch     = "watch"
	opPut       = "put"
	opGet       = "get"
	opNewEdge   = "new_edge"
	opRetire    = "retire"
	opShutdown  = "shutdown"
	opHold      = "hold"    // since version 2
	opHeld      = "held"    // since version 2
	opUpgrade   = "upgrade" // since version 2
)

// since is the protocol version that brought an op, or one of its arguments.
func since(op string, args any) int {
	if s, ok := args.(Spec); ok && s.Listen != "" {
		return 3
	}
	switch op {
	case opHold, opHeld, opUpgrade:
		return 2
	}
	return 1
}

// request is one line from a client. V is the lowest protocol version that
// knows everything in the request.
type request struct {
	V    int             `json:"v"`
	ID   uint64          `json:"id"`
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

// answer is one line to a client; ID is the request's.
type answer struct {
	V      int             `json:"v"`
	ID     uint64          `json:"id"`
	Error  *gapless.Error  `json:"error,omitempty"`
	Errno  syscall.Errno   `json:"errno,omitempty"` // what the system said, with Error
	Result json.RawMessage `json:"result,omitempty"`
}

// entry is one line of keeper's ledger: a fact that came, changed or went.
// Whoever has read all of them, with the descriptors that came along, can
// stand in for keeper.
type entry struct {
	Seq   uint64          `json:"seq"`
	Key   string          `json:"key,omitempty"`
	Value json.RawMessage `json:"value,omitempty"` // absent: the key is gone
	Files int             `json:"files,omitempty"` // descriptors that come with this line
	Same  bool            `json:"same,omitempty"`  // the key's descriptors are those of before
	Whole bool            `json:"whole,omitempty"` // all there is was told; changes follow
}

// remoteError is an error of keeper with the cause that it had there, so that
// errors.Is(err, fs.ErrNotExist) holds on both sides.
type remoteError struct {
	told  *gapless.Error
	errno syscall.Errno
}

func (e remoteError) Error() string { return e.told.Message }

func (e remoteError) Unwrap() []error { return []error{e.told, e.errno} }

// Info is keeper's answer to Hello.
type Info struct {
	Protocol int    `json:"protocol"`
	PID      int    `json:"pid"`
	Version  string `json:"version"`
	Binary   string `json:"binary,omitempty"` // what keeper runs from; absolute
}

type (
	noArgs   struct{}
	addrArgs struct {
		Addr string `json:"addr"`
	}
	idArgs struct {
		ID string `json:"id"`
	}
	keyArgs struct {
		Key string `json:"key"`
	}
	genArgs struct {
		Generation int `json:"generation"`
	}
	graceArgs struct {
		GraceNS int64 `json:"grace_ns"`
	}
	signalArgs struct {
		ID     string `json:"id"`
		Signal int    `json:"signal"`
	}
	seqArgs struct {
		Seq uint64 `json:"seq"`
	}
	pathArgs struct {
		Path string `json:"path"`
	}
	putArgs struct {
		Key   string `json:"key"`
		Value []byte `json:"value"`
	}
)

var errLineTooLong = fmt.Errorf("line longer than %d bytes", maxLine)

// readLine returns the next line without its newline. The slice is only the
// caller's until the next call.
func readLine(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	var long []byte
	for errors.Is(err, bufio.ErrBufferFull) {
		if long = append(long, line...); len(long) > maxLine {
			return nil, errLineTooLong
		}
		line, err = r.ReadSlice('\n')
	}
	if err != nil {
		if err == io.EOF && len(long)+len(line) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	long = append(long, line...)
	return long[:len(long)-1], nil
}

// decode is strict: a field that we do not know might change what the sender
// wants, so it is refused, not ignored. Only answers are read leniently.
func decode(b []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one value")
	}
	return nil
}

// encodeLine writes v as one JSON line.
func encodeLine(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if len(b) >= maxLine {
		return nil, errLineTooLong
	}
	return append(b, '\n'), nil
}
