package h1

// FieldCount is how many header fields the head has.
func (h *Head) FieldCount() int { return h.n }

// GRPC reports whether a request is one of gRPC, whose body may be silent for
// long while both sides talk.
func (h *Head) GRPC() bool {
	for i := range h.fields[:h.n] {
		f := &h.fields[i]
		if equalFold(h.of(f.name), "content-type") {
			return hasPrefixFold(h.of(f.value), "application/grpc")
		}
	}
	return false
}
