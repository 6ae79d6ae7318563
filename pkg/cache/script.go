package cache

import "github.com/redis/go-redis/v9"

// A guard's record is the id of its miss, and this behind it once somebody waits for the fill. Who waits is told on the
// channel that has the guard's name. Where an ACL denies the channel, the fill goes on without.
const waited = "+"

// missScript returns the value and its remaining lifetime in ms; or, where there is none, the id of the guard that
// stands: the caller's own if it is the first to miss. KEYS: value, guard. ARGV: new id, guard's lifetime in ms.
var missScript = redis.NewScript(`
local value = redis.call('GET', KEYS[1])
if value then return {value, redis.call('PTTL', KEYS[1])} end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return ARGV[1] end
return redis.call('GET', KEYS[2])
`)

// fillScript stores the value iff the guard still has the id of the miss, and removes the guard. KEYS: value, guard.
// ARGV: id, value, value's lifetime in ms.
var fillScript = redis.NewScript(`
local id = redis.call('GET', KEYS[2])
if id ~= ARGV[1] and id ~= ARGV[1] .. '+' then
  redis.pcall('PUBLISH', KEYS[2], ARGV[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
if id ~= ARGV[1] then redis.pcall('PUBLISH', KEYS[2], ARGV[1]) end
return 1
`)

// releaseScript removes the guard iff it still has the id, since nothing will be filled. KEYS: guard. ARGV: id.
var releaseScript = redis.NewScript(`
local id = redis.call('GET', KEYS[1])
if id == ARGV[1] or id == ARGV[1] .. '+' then redis.call('DEL', KEYS[1]) end
if id ~= ARGV[1] then redis.pcall('PUBLISH', KEYS[1], ARGV[1]) end
return 1
`)

// waitScript notes that somebody waits for the guard with this id, and returns how many ms it still stands; 0 if there is
// nothing to wait for any more. KEYS: value, guard. ARGV: id, and 1 if the value that is there is to be replaced.
var waitScript = redis.NewScript(`
if ARGV[2] ~= '1' and redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local id = redis.call('GET', KEYS[2])
if id ~= ARGV[1] and id ~= ARGV[1] .. '+' then return 0 end
local left = redis.call('PTTL', KEYS[2])
if left <= 0 then return 0 end
redis.call('SET', KEYS[2], ARGV[1] .. '+', 'PX', left)
return left
`)

// guardScript takes the guard while there is a value that is to be replaced, and returns the id of the guard that stands.
// KEYS: guard. ARGV: new id, guard's lifetime in ms.
var guardScript = redis.NewScript(`
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return ARGV[1] end
return redis.call('GET', KEYS[1])
`)
