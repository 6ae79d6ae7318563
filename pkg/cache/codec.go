package cache

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Codec turns values into bytes and back. It is used from many goroutines.
type Codec interface {
	Marshal(value any) ([]byte, error)
	// Unmarshal reads into the value that the pointer points to. It must not keep data.
	Unmarshal(data []byte, pointer any) error
}

// JSON is the codec that caches use unless [WithCodec] says otherwise.
var JSON Codec = jsonCodec{}

type jsonCodec struct{}

func (jsonCodec) Marshal(value any) ([]byte, error) { return json.Marshal(value) }

func (jsonCodec) Unmarshal(data []byte, pointer any) error { return json.Unmarshal(data, pointer) }

// NotFoundValue is what stands in Redis under a key of which it is known that there is no value, without encryption.
const NotFoundValue = "\xc1\x01"

// A stored value is either just what the codec made, or begins with magic and flags. No text, JSON or MessagePack begins
// with this byte; what does is given flags, even if they are none.
const magic byte = 0xc1

const (
	flagNotFound byte = 1 << iota
	flagCompressed
	flagSealed // then come the key's number in four bytes, a nonce, and the encrypted rest
	flagsKnown = flagNotFound | flagCompressed | flagSealed
)

// errUndecodable is matched by whatever is wrong with a stored value itself. Such a value is loaded again.
var errUndecodable = errors.New("undecodable value")

// packer turns what a codec makes into what is stored.
type packer struct {
	keyring       *Keyring
	compressAbove int
}

// pack returns what is stored under key for data, or for the knowledge that there is none.
func (p *packer) pack(key string, data []byte, notFound bool) ([]byte, error) {
	flags := byte(0)
	if notFound {
		data, flags = nil, flagNotFound
	}
	if p.compressAbove > 0 && len(data) >= p.compressAbove {
		if small := compress(data); len(small) < len(data) {
			data, flags = small, flags|flagCompressed
		}
	}
	if p.keyring != nil {
		flags |= flagSealed
		return p.keyring.seal([]byte{magic, flags}, key, data)
	}
	if flags == 0 && (len(data) == 0 || data[0] != magic) {
		return data, nil
	}
	return append([]byte{magic, flags}, data...), nil
}

// unpack is the inverse of pack.
func (p *packer) unpack(key string, stored []byte) (data []byte, notFound bool, err error) {
	flags, data := byte(0), stored
	if len(stored) >= 2 && stored[0] == magic {
		flags, data = stored[1], stored[2:]
	}
	switch {
	case flags&^flagsKnown != 0:
		return nil, false, fmt.Errorf("%w: unknown flags %#x", errUndecodable, flags)
	case flags&flagSealed != 0 && p.keyring == nil:
		return nil, false, fmt.Errorf("%w: it is encrypted and there is no keyring", errUndecodable)
	case flags&flagSealed == 0 && p.keyring != nil:
		return nil, false, fmt.Errorf("%w: it is not encrypted", errUndecodable)
	case flags&flagSealed != 0:
		if data, err = p.keyring.open([]byte{magic, flags}, key, data); err != nil {
			return nil, false, err
		}
	}
	if flags&flagCompressed != 0 {
		if data, err = decompress(data); err != nil {
			return nil, false, err
		}
	}
	return data, flags&flagNotFound != 0, nil
}

var deflaters = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // fails only for an unknown level
	return w
}}

func compress(data []byte) []byte {
	var b bytes.Buffer
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&b)
	_, _ = w.Write(data) // a buffer takes everything
	_ = w.Close()
	return b.Bytes()
}

func decompress(data []byte) ([]byte, error) {
	out, err := io.ReadAll(flate.NewReader(bytes.NewReader(data)))
	if err != nil {
		return nil, fmt.Errorf("%w: decompress: %w", errUndecodable, err)
	}
	return out, nil
}
