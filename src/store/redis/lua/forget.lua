-- KEYS: the group, iii-stream:groups, iii-stream:times.
-- ARGV: the channel on which to say that the group is gone, or nothing.
-- What is kept of a group that has no items any more: 'there' if it has, else how many ms it is until the
-- clock has passed its last time, which nothing may be given again, or 'gone'.
local group, groups, times = KEYS[1], KEYS[2], KEYS[3]
if redis.call('EXISTS', group) == 1 then
  return 'there'
end
redis.call('HDEL', groups, group)
if ARGV[1] ~= '' then
  redis.call('PUBLISH', ARGV[1], 'gone:' .. string.sub(group, 8))
end
local now = clock()
local last = believed(redis.call('HGET', times, group), now)
if last >= now then
  return last - now + 1
end
redis.call('HDEL', times, group)
return 'gone'
