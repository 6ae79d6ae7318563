package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/walfence/walfence/internal/testkit"
	"github.com/walfence/walfence/pkg/cache"
)

// bytesCodec stores bytes as they are.
type bytesCodec struct{}

func (bytesCodec) Marshal(value any) ([]byte, error) { return value.([]byte), nil }

func (bytesCodec) Unmarshal(data []byte, pointer any) error {
	*pointer.(*[]byte) = bytes.Clone(data)
	return nil
}

func keyring(t *testing.T, active uint32, numbers ...uint32) *cache.Keyring {
	keys := map[uint32][]byte{}
	for _, n := range numbers {
		keys[n] = bytes.Repeat([]byte{byte(n)}, 32)
	}
	k, err := cache.NewKeyring(active, keys)
	require.NoError(t, err)
	return k
}

// stored returns what a second cache finds where a first one stored a value, and how often it had to load.
func stored(t *testing.T, client redis.UniversalClient, value []byte, opt cache.Options, options ...cache.Option) ([]byte, int) {
	options = append(options, cache.WithCodec(bytesCodec{}))
	first := loads[[]byte]{value: value}
	_, err := open[[]byte](t, client, opt, options...).Get(t.Context(), "k", first.load)
	require.NoError(t, err)
	second := loads[[]byte]{}
	got, err := open[[]byte](t, client, opt, options...).Get(t.Context(), "k", second.load)
	require.NoError(t, err)
	return got, second.calls
}

func TestValuesOfAnyKindComeBackAsTheyWere(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	values := map[string][]byte{
		"empty": {}, "one byte": {0}, "magic": {0xc1}, "like not found": []byte(cache.NotFoundValue), "magic text": []byte("\xc1\x02\x00rest"),
		"compressible": bytes.Repeat([]byte("walfence"), 1000), "50 MB": bytes.Repeat([]byte{1, 2, 3, 4, 5}, 10<<20),
	}
	for name, value := range values {
		for _, compress := range []int{0, 1, 4096} {
			for _, sealed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, compressed above %d, sealed %v", name, compress, sealed), func(t *testing.T) {
					require.NoError(t, client.FlushAll(t.Context()).Err())
					var options []cache.Option
					if sealed {
						options = append(options, cache.WithKeyring(keyring(t, 1, 1)))
					}
					got, calls := stored(t, client, value, cache.Options{CompressAbove: compress, Timeout: patience}, options...)
					require.True(t, bytes.Equal(value, got))
					require.Zero(t, calls)
				})
			}
		}
	}
}

func TestLargeValuesAreStoredSmall(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	_, _ = stored(t, client, bytes.Repeat([]byte("walfence"), 1000), cache.Options{CompressAbove: 1000})
	require.Less(t, client.StrLen(t.Context(), "k").Val(), int64(500))
}

func TestAnEncryptedValueIsOfUseOnlyUnderItsKey(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{}, cache.WithKeyring(keyring(t, 1, 1)))
	secret := loads[string]{value: "card 4711"}
	_, err := c.Get(t.Context(), "tenant:1:card", secret.load)
	require.NoError(t, err)
	raw := client.Get(t.Context(), "tenant:1:card").Val()
	require.NotContains(t, raw, "4711")

	require.NoError(t, client.Set(t.Context(), "tenant:2:card", raw, 0).Err())
	own := loads[string]{value: "own"}
	got, err := c.Get(t.Context(), "tenant:2:card", own.load)
	require.NoError(t, err)
	require.Equal(t, "own", got, "a value that was moved does not decrypt")
	require.EqualValues(t, 1, c.Stats().Undecodable)

	damaged := raw[:len(raw)-1] + string(raw[len(raw)-1]^1)
	require.NoError(t, client.Set(t.Context(), "tenant:1:card", damaged, 0).Err())
	got, err = c.Get(t.Context(), "tenant:1:card", secret.load)
	require.NoError(t, err)
	require.Equal(t, "card 4711", got)
	require.NotContains(t, fmt.Sprintf("%v %+v", keyring(t, 1, 1), keyring(t, 1, 1)), "\x01")
}

func TestKeysRotate(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	get := func(k *cache.Keyring) (calls int) {
		l := loads[string]{value: "v"}
		got, err := open[string](t, client, cache.Options{}, cache.WithKeyring(k)).Get(t.Context(), "k", l.load)
		require.NoError(t, err)
		require.Equal(t, "v", got)
		return l.calls
	}
	require.Equal(t, 1, get(keyring(t, 1, 1)))
	require.Equal(t, 0, get(keyring(t, 2, 1, 2)), "the old key still reads")
	require.Equal(t, 1, get(keyring(t, 2, 2)), "without the old key it is loaded again")
	require.Equal(t, 0, get(keyring(t, 2, 1, 2)))
	for _, bad := range []map[uint32][]byte{{}, {2: make([]byte, 32)}, {1: make([]byte, 5)}} {
		_, err := cache.NewKeyring(1, bad)
		require.Error(t, err)
	}
}

func TestWhatIsNoValueIsLoadedAgainAndReplaced(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[int](t, client, cache.Options{})
	for _, bad := range []string{"", "not JSON", `"text"`, "\xc1\x80", "\xc1\x02garbage", "\xc1\x04"} {
		require.NoError(t, client.Set(t.Context(), "k", bad, 0).Err())
		l := loads[int]{value: 7}
		for range 2 {
			got, err := c.Get(t.Context(), "k", l.load)
			require.NoError(t, err)
			require.Equal(t, 7, got)
		}
		require.Equal(t, 1, l.calls, "%q", bad)
	}
	require.EqualValues(t, 6, c.Stats().Undecodable)
}

func TestAValueThatCannotBeEncodedIsAnErrorAndGivesTheGuardUp(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[any](t, client, cache.Options{})
	_, err := c.Get(t.Context(), "k", func(context.Context) (any, error) { return make(chan int), nil })
	require.ErrorContains(t, err, "encode value")
	require.Zero(t, client.DBSize(t.Context()).Val())
}

func TestGetManyAsksOnceAndLoadsWhatIsMissing(t *testing.T) {
	everyForm(t, func(t *testing.T, client redis.UniversalClient) {
		c := open[string](t, client, cache.Options{})
		var asked []string
		load := func(_ context.Context, keys []string) (map[string]string, error) {
			asked = append(asked, keys...)
			values := map[string]string{}
			for _, key := range keys {
				if !strings.HasPrefix(key, "none") {
					values[key] = "value of " + key
				}
			}
			return values, nil
		}
		keys := []string{"a", "b", "none", "a", "{tagged}:c"}
		want := map[string]string{"a": "value of a", "b": "value of b", "{tagged}:c": "value of {tagged}:c"}
		for range 3 {
			got, err := c.GetMany(t.Context(), keys, load)
			require.NoError(t, err)
			require.Equal(t, want, got)
		}
		require.ElementsMatch(t, []string{"a", "b", "none", "{tagged}:c"}, asked)

		l := loads[string]{}
		got, err := c.Get(t.Context(), "b", l.load)
		require.NoError(t, err)
		require.Equal(t, "value of b", got)
		_, err = c.Get(t.Context(), "none", l.load)
		require.ErrorIs(t, err, cache.ErrNotFound)
	})
}

func TestGetManyRefusesFillsFromBeforeAnInvalidation(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[string](t, client, cache.Options{})
	_, err := c.GetMany(t.Context(), []string{"a", "b"}, func(ctx context.Context, _ []string) (map[string]string, error) {
		return map[string]string{"a": "old", "b": "v"}, client.Unlink(ctx, "a", cache.GuardKey("a")).Err()
	})
	require.NoError(t, err)
	require.Equal(t, []string{"b"}, client.Keys(t.Context(), "*").Val())
}

func TestLoadWarmsManyKeys(t *testing.T) {
	client := testkit.Redis(t).Client(t)
	c := open[int](t, client, cache.Options{})
	var keys []string
	for i := range 1234 {
		keys = append(keys, fmt.Sprintf("key:%d", i))
	}
	calls := 0
	require.NoError(t, c.Load(t.Context(), func(_ context.Context, keys []string) (map[string]int, error) {
		calls++
		values := map[string]int{}
		for i, key := range keys {
			values[key] = i
		}
		return values, nil
	}, keys...))
	require.Equal(t, 3, calls)
	require.EqualValues(t, 1234, client.DBSize(t.Context()).Val())
}

func TestInvalidateRemovesValueAndGuard(t *testing.T) {
	everyForm(t, func(t *testing.T, client redis.UniversalClient) {
		c := open[string](t, client, cache.Options{})
		l := loads[string]{value: "v"}
		for _, key := range []string{"a", "b", "{t}:c"} {
			_, err := c.Get(t.Context(), key, l.load)
			require.NoError(t, err)
			require.NoError(t, client.Set(t.Context(), cache.GuardKey(key), "id", 0).Err())
		}
		require.NoError(t, c.Invalidate(t.Context(), "a", "b", "{t}:c"))
		for _, key := range []string{"a", "b", "{t}:c"} {
			require.Zero(t, client.Exists(t.Context(), key).Val()+client.Exists(t.Context(), cache.GuardKey(key)).Val())
		}
	})
}
