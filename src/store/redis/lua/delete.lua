-- ARGV: names, is_ambiguous, the message from behind its time up to the kind, item, is_checked.
local names, is_ambiguous, head, item = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local owner = other_owner(names, is_ambiguous)
if owner then
  return {'owned', owner}
end
local old = redis.call('HGET', group, item)
if not old then
  return {'nothing'}
end
if ARGV[5] ~= '1' and not is_json(old) then
  return {'odd', old}
end
redis.call('HDEL', group, item)
local state = ''
if redis.call('EXISTS', group) == 0 then
  redis.call('HDEL', groups, group)
  state = 'gone'
elseif is_ambiguous == '1' and redis.call('HSETNX', groups, group, names) == 1 then
  state = 'named'
end
local time = publish(head .. 'delete","data":' .. old .. '}', state)
return {'done', time, old, state}
