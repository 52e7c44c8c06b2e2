-- ARGV: names, is_ambiguous, the message from behind its time up to the kind, item, new value, is_there,
-- and the value that it must still have if it is there.
local names, is_ambiguous, head, item, value = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local owner = other_owner(names, is_ambiguous)
if owner then
  return {'owned', owner}
end
local expected = ARGV[6] == '1' and ARGV[7]
local old = redis.call('HGET', group, item)
if old ~= expected then
  return {'other', old}
end
redis.call('HSET', group, item, value)
local state = after_set(names, is_ambiguous, not old)
local time = publish(head .. (old and 'update' or 'create') .. '","data":' .. value .. '}', state)
return {'done', time, old, state}
