-- KEYS: the group, iii-stream:times.
-- ARGV: the channel and the mark to publish on it, and the item if it is one.
-- What the transaction of a cut answers, for a Redis that is full: it refuses every transaction, whatever
-- is in it.
local items = ARGV[3] and redis.call('HGET', KEYS[1], ARGV[3])
if not ARGV[3] then
  items = redis.call('HGETALL', KEYS[1])
end
local time = redis.call('TIME')
local last = redis.call('HGET', KEYS[2], KEYS[1])
return {items, time, last, redis.call('PUBLISH', ARGV[1], ARGV[2])}
