-- KEYS: the group, iii-stream:times.
-- ARGV: a time that an event of the group was shown with, by the word of others.
-- What comes next of the group is later: its time is at least that, up to an hour ahead of the clock. Answers
-- 'none' if the group has no items.
local now = clock()
local time = math.min(tonumber(ARGV[1]), now + 3600000)
if time > math.max(now, believed(redis.call('HGET', KEYS[2], KEYS[1]), now)) then
  redis.call('HSET', KEYS[2], KEYS[1], string.format('%.0f', time))
end
return redis.call('EXISTS', KEYS[1]) == 0 and 'none' or ''
