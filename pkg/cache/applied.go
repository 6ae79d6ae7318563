package cache

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/walfence/walfence/pkg/events"
)

// Applied is the applied record of one source in one cache: the highest position that the cache may have been told of. The
// invalidator raises it before it removes anything; a reader of a replica takes it after its miss. See [Miss.Prove].
//
// On a Cluster it is kept in as many slots as there are [AppliedKeys], spread evenly, so that no primary can lose it alone
// in a failover without having lost its removals too. It holds as long as every primary has one of these slots. A reader
// wants them all, of one epoch, and takes the highest.
//
// A record that is there is usable or pending. When one is missing (FLUSHALL, eviction), raising leaves a pending one, which
// readers take for none, and Restore makes it usable with the highest position in the stream, read after it was pending:
// nothing that was applied before it went missing is above that.
type Applied struct {
	client redis.UniversalClient
	keys   []string
}

// appliedKeys is how many records there are on a Cluster.
const appliedKeys = 16

// NewApplied returns the record of a source, by its name in rules.yaml, on a single Redis, Sentinel or Cluster.
func NewApplied(client redis.UniversalClient, source string) *Applied {
	keys := AppliedKeys(source)
	if _, cluster := client.(*redis.ClusterClient); !cluster {
		keys = keys[:1]
	}
	return &Applied{client: client, keys: keys}
}

// AppliedKeys returns where the applied record of a source is: all of them on a Cluster, elsewhere the first only.
func AppliedKeys(source string) []string {
	keys := make([]string, appliedKeys)
	for i, tag := range appliedTags {
		keys[i] = string(events.AppendKeyPart([]byte("{"+tag+"}:walfence-applied:"), source))
	}
	return keys
}

// appliedTags are the first numbers whose slots fall into each part of the slots.
var appliedTags = func() (tags [appliedKeys]string) {
	for n, left := 0, appliedKeys; left > 0; n++ {
		tag := strconv.Itoa(n)
		if part := int(slot(tag)) * appliedKeys >> slotBits; tags[part] == "" {
			tags[part] = tag
			left--
		}
	}
	return tags
}()

// A position stands in a record as 32 hexadecimal digits, epoch before LSN, so that text compares as positions do. A
// pending one stands behind "?", a random word and ":".

// raiseScript returns 1 if the record is usable. KEYS: record. ARGV: position, random word.
var raiseScript = redis.NewScript(`
local old = redis.call('GET', KEYS[1])
if not old then
  redis.call('SET', KEYS[1], '?' .. ARGV[2] .. ':' .. ARGV[1])
  return 0
end
local mark = ''
if string.sub(old, 1, 1) == '?' then
  local colon = string.find(old, ':', 1, true)
  mark, old = string.sub(old, 1, colon), string.sub(old, colon + 1)
end
if old < ARGV[1] then redis.call('SET', KEYS[1], mark .. ARGV[1]) end
if mark == '' then return 1 end
return 0
`)

// restoreScript makes a record usable iff it is the pending one with the word. KEYS: record. ARGV: position, word.
var restoreScript = redis.NewScript(`
local old = redis.call('GET', KEYS[1])
if not old then return 0 end
if string.sub(old, 1, 1) ~= '?' then return 1 end
local colon = string.find(old, ':', 1, true)
if string.sub(old, 2, colon - 1) ~= ARGV[2] then return 0 end
local position = string.sub(old, colon + 1)
if position < ARGV[1] then position = ARGV[1] end
redis.call('SET', KEYS[1], position)
return 1
`)

// Raise notes that everything up to a position may be applied from now on. It returns after every primary has answered, and
// must have returned without error before anything at that position is removed. Usable is false if the record was missing
// somewhere, and Restore is to be called at leisure; the removal need not wait for that. Where memory has run out the record
// is deleted instead, which is as safe.
func (a *Applied) Raise(ctx context.Context, p events.Position) (usable bool, err error) {
	text, word := appliedText(p), rand.Text()
	results := a.each(ctx, raiseScript, func(int) []any { return []any{text, word} })
	usable = true
	for i, r := range results {
		n, err := r.Int()
		if err != nil && strings.HasPrefix(err.Error(), "OOM ") {
			err = a.client.Del(ctx, a.keys[i]).Err()
		}
		if err != nil {
			return false, fmt.Errorf("raise applied record: %w", err)
		}
		usable = usable && n == 1
	}
	return usable, nil
}

// Restore makes a record usable that was missing. Highest returns the highest position in the stream, and is called after
// the record has become pending.
func (a *Applied) Restore(ctx context.Context, highest func(context.Context) (events.Position, error)) error {
	if usable, err := a.Raise(ctx, events.Position{}); err != nil || usable {
		return err
	}
	records, err := a.records(ctx)
	if err != nil {
		return err
	}
	p, err := highest(ctx)
	if err != nil {
		return fmt.Errorf("restore applied record: %w", err)
	}
	results := a.each(ctx, restoreScript, func(i int) []any {
		word, _, _ := strings.Cut(strings.TrimPrefix(records[i], "?"), ":")
		return []any{appliedText(p), word}
	})
	for _, r := range results {
		switch n, err := r.Int(); {
		case err != nil:
			return fmt.Errorf("restore applied record: %w", err)
		case n == 0:
			return fmt.Errorf("restore applied record: it went missing again")
		}
	}
	return nil
}

// Read returns the record, and false where there is none that can be used.
func (a *Applied) Read(ctx context.Context) (p events.Position, known bool, err error) {
	records, err := a.records(ctx)
	if err != nil {
		return p, false, err
	}
	for i, text := range records {
		one, ok := parseApplied(text)
		if !ok || i > 0 && one.Epoch != p.Epoch {
			return events.Position{}, false, nil
		}
		p.Epoch, p.LSN = one.Epoch, max(p.LSN, one.LSN)
	}
	return p, true, nil
}

// records returns what stands under each key; nothing where there is none.
func (a *Applied) records(ctx context.Context) ([]string, error) {
	pipe := a.client.Pipeline()
	for _, key := range a.keys {
		pipe.Get(ctx, key)
	}
	cmds, err := pipe.Exec(ctx)
	if err != nil && err != redis.Nil {
		return nil, fmt.Errorf("read applied record: %w", err)
	}
	records := make([]string, len(cmds))
	for i, cmd := range cmds {
		records[i] = cmd.(*redis.StringCmd).Val()
	}
	return records, nil
}

// each runs a script on every record.
func (a *Applied) each(ctx context.Context, script *redis.Script, args func(i int) []any) []*redis.Cmd {
	return pipeline(ctx, a.client, script, len(a.keys), func(i int) ([]string, []any) { return a.keys[i : i+1], args(i) })
}

func appliedText(p events.Position) string { return fmt.Sprintf("%016x%016x", p.Epoch, uint64(p.LSN)) }

func parseApplied(text string) (p events.Position, ok bool) {
	if len(text) != 32 {
		return p, false
	}
	epoch, err1 := strconv.ParseUint(text[:16], 16, 64)
	lsn, err2 := strconv.ParseUint(text[16:], 16, 64)
	return events.Position{Epoch: epoch, LSN: events.LSN(lsn)}, err1 == nil && err2 == nil
}
