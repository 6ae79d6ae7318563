package cache

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
)

// Keyring encrypts values with AES-GCM. The cache key is part of what is authenticated, so a value that somebody moved
// to another key, another tenant's above all, does not decrypt there. A keyring does not change and is safe for
// concurrent use.
//
// To rotate: give every process a keyring that has the new key but still writes with the old one, then one that writes
// with the new one, and once the longest TTL has passed, one without the old key. What cannot be decrypted is loaded again.
// Nonces are random: rotate before four billion values were written with one key.
type Keyring struct {
	active  uint32
	sealers map[uint32]cipher.AEAD
}

// NewKeyring returns a keyring that writes with the key numbered active and reads with any of keys, each of 16, 24 or
// 32 random bytes.
func NewKeyring(active uint32, keys map[uint32][]byte) (*Keyring, error) {
	k := &Keyring{active: active, sealers: map[uint32]cipher.AEAD{}}
	for number, key := range keys {
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("make keyring: key %d: %w", number, err)
		}
		if k.sealers[number], err = cipher.NewGCMWithRandomNonce(block); err != nil {
			return nil, fmt.Errorf("make keyring: key %d: %w", number, err)
		}
	}
	if k.sealers[active] == nil {
		return nil, errors.New("make keyring: the active key is not among the keys")
	}
	return k, nil
}

// String keeps keys out of logs.
func (k *Keyring) String() string { return "[redacted]" }

// seal appends the active key's number and the encrypted data to head, which is authenticated with the cache key.
func (k *Keyring) seal(head []byte, key string, data []byte) ([]byte, error) {
	head = binary.BigEndian.AppendUint32(head, k.active)
	associated := append(append([]byte(nil), head...), key...)
	return k.sealers[k.active].Seal(head, nil, data, associated), nil
}

// open decrypts what seal appended to head.
func (k *Keyring) open(head []byte, key string, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 {
		return nil, fmt.Errorf("%w: it is cut off", errUndecodable)
	}
	number := binary.BigEndian.Uint32(sealed)
	sealer := k.sealers[number]
	if sealer == nil {
		return nil, fmt.Errorf("%w: key %d is not in the keyring", errUndecodable, number)
	}
	associated := append(append(head, sealed[:4]...), key...)
	data, err := sealer.Open(nil, nil, sealed[4:], associated)
	if err != nil {
		return nil, fmt.Errorf("%w: decrypt: %w", errUndecodable, err)
	}
	return data, nil
}
