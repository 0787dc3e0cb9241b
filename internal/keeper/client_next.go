//go:build nextversion

package keeper

import "context"

// Birthday is the op that the next version adds. A keeper of this version
// answers it with gapless.Unsupported.
func (c *Client) Birthday(ctx context.Context) (string, error) {
	var day string
	err := c.call(ctx, opBirthday, noArgs{}, &day)
	return day, err
}
