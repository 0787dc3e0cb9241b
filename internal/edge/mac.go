package edge

import (
	"crypto/hmac"
	"crypto/sha256"
)

// macKey is a key of HMAC-SHA256, prepared so that signing a short message
// allocates nothing.
type macKey struct{ inner, outer [sha256.BlockSize]byte }

// maxSigned is the most bytes that can be signed.
const maxSigned = 128

func newMACKey(key []byte) (k macKey) {
	if len(key) > sha256.BlockSize {
		sum := sha256.Sum256(key)
		key = sum[:]
	}
	copy(k.inner[:], key)
	copy(k.outer[:], key)
	for i := range k.inner {
		k.inner[i] ^= 0x36
		k.outer[i] ^= 0x5c
	}
	return k
}

func (k *macKey) sign(message []byte) [sha256.Size]byte {
	var in [sha256.BlockSize + maxSigned]byte
	var out [sha256.BlockSize + sha256.Size]byte
	n := copy(in[:], k.inner[:])
	n += copy(in[n:], message)
	sum := sha256.Sum256(in[:n])
	copy(out[:], k.outer[:])
	copy(out[sha256.BlockSize:], sum[:])
	return sha256.Sum256(out[:])
}

// signed takes the same time whatever is wrong with mac.
func (k *macKey) signed(message, mac []byte) bool {
	sum := k.sign(message)
	return hmac.Equal(sum[:], mac)
}

// deriveKey makes the key of one app out of the installation's: what one app's
// clients bring means nothing to another app.
func deriveKey(secret []byte, app string) macKey {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte("gapless session\x00" + app))
	return newMACKey(h.Sum(nil))
}
