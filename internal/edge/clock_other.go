//go:build !linux

package edge

import "time"

// Clock is a clock that all processes of one boot share. Where the monotonic
// one cannot be read, it is that of the wall.
func Clock() time.Duration { return time.Duration(time.Now().UnixNano()) }
