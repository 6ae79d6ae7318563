package cache

import (
	"errors"
	"fmt"
	"strings"
)

// The two endings of guards. No two keys share a guard, and a guard always hashes to its key's slot.
const (
	// GuardSuffix ends the guard of a key without a hash tag, which the guard's name encloses in braces.
	GuardSuffix = "}:walfence-guard"
	// TaggedGuardSuffix ends the guard of a key that has a hash tag of its own.
	TaggedGuardSuffix = ":walfence-guard:tagged"
)

// ErrKey is matched by the errors of [CheckKey].
var ErrKey = errors.New("unusable key")

// GuardKey returns the name of a key's guard: "{K}:walfence-guard", or "K:walfence-guard:tagged" if K has a hash tag.
// The key must pass [CheckKey].
func GuardKey(key string) string {
	return string(AppendGuardKey(make([]byte, 0, len(key)+len(TaggedGuardSuffix)), key))
}

// AppendGuardKey appends the name of a key's guard to dst. The key must pass [CheckKey].
func AppendGuardKey(dst []byte, key string) []byte {
	if strings.IndexByte(key, '{') >= 0 {
		dst = append(dst, key...)
		return append(dst, TaggedGuardSuffix...)
	}
	dst = append(dst, '{')
	dst = append(dst, key...)
	return append(dst, GuardSuffix...)
}

// CheckKey reports whether a key can have a guard in its own slot: it is not empty, and braces stand in it only as one
// hash tag that is not empty. Its errors match [ErrKey].
func CheckKey(key string) error {
	open, end := strings.IndexByte(key, '{'), strings.IndexByte(key, '}')
	switch {
	case key == "":
		return fmt.Errorf("%w: it is empty", ErrKey)
	case open < 0 && end < 0:
		return nil
	case open < 0 || end < open || strings.LastIndexByte(key, '{') != open || strings.LastIndexByte(key, '}') != end:
		return fmt.Errorf("%w %q: braces may stand only as one hash tag", ErrKey, key)
	case end == open+1:
		return fmt.Errorf("%w %q: its hash tag is empty", ErrKey, key)
	}
	return nil
}
