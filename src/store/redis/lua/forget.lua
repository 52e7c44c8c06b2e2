-- ARGV: the channel on which to say that the group is gone, or nothing.
-- What is kept of a group that has no items any more: 'there' if it has, 'wait' until the clock has
-- passed its last time, which nothing may be given again.
if redis.call('EXISTS', group) == 1 then
  return 'there'
end
redis.call('HDEL', groups, group)
if ARGV[1] ~= '' then
  redis.call('PUBLISH', ARGV[1], 'gone:' .. string.sub(group, 8))
end
local last = redis.call('HGET', times, group)
if last and tonumber(last) >= now() then
  return 'wait'
end
redis.call('HDEL', times, group)
return 'gone'
