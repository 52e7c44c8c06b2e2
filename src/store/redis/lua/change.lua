-- Changes, in their order, each by itself: one that fails changes nothing and keeps no other from
-- being made. What may be refused is done before the event goes out, which cannot be taken back; what
-- was done by then can, and is.
-- KEYS: iii-stream:groups, iii-stream:times, the groups.
-- ARGV: of each group its names, as the index has them, and whether the key may be two pairs' ('1');
-- then of each change what it does, the number of its group, the message from behind its time up to its
-- kind ('send': up to the keys of our own), the item, the new value, and the value that it must still
-- have ('swap').
-- Answers one for each change.
local call = redis.call
local index, times = KEYS[1], KEYS[2]
local now = clock()
local lasts, given = {}, {} -- by key: the group's last time, and the same if it is new
local undo -- how what the change under way has done is taken back, in its order

-- If they are no hashes, nothing is done at all.
call('HLEN', index)
call('HLEN', times)

local function write(back, ...)
  call(...)
  undo[#undo + 1] = back
end

-- Before a change, so that what fails here has changed nothing.
local function look_up_time(key)
  lasts[key] = lasts[key] or believed(call('HGET', times, key), now)
end

-- `event` is the message from behind its time up to the keys of our own.
local function publish(key, event, state)
  local time = math.max(now, lasts[key] + 1)
  call('PUBLISH', 'stream::events', '{"type":"stream","timestamp":' .. time .. event
    .. ',"iii-stream-db":' .. database .. ',"iii-stream":"' .. state .. '"}')
  lasts[key], given[key] = time, time
  return time
end

-- A key that may be two pairs' gets its owner, if it has none.
local function name(group)
  if not group.is_ambiguous or call('HEXISTS', index, group.key) == 1 then
    return ''
  end
  write({'HDEL', index, group.key}, 'HSET', index, group.key, group.names)
  return 'named'
end

local function put(group, head, item, old, value)
  local key, state = group.key, nil
  look_up_time(key)
  if not old and call('EXISTS', key) == 0 then
    write({'HDEL', index, key}, 'HSET', index, key, group.names)
    state = 'new'
  else
    state = name(group)
  end
  write(old and {'HSET', key, item, old} or {'HDEL', key, item}, 'HSET', key, item, value)
  local kind = old and 'update","data":' or 'create","data":'
  local time = publish(key, head .. kind .. value .. '}', state)
  return {'done', time, old, state}
end

local kinds = {}

function kinds.set(group, head, item, value)
  local old = call('HGET', group.key, item)
  if old and not pcall(cjson.decode, old) then
    return {'odd', old}
  end
  return put(group, head, item, old, value)
end

function kinds.swap(group, head, item, value, expected)
  local old = call('HGET', group.key, item)
  if old ~= expected then
    return {'other', old}
  end
  return put(group, head, item, old, value)
end

-- A swap where there was nothing.
function kinds.make(group, head, item, value)
  return kinds.swap(group, head, item, value, false)
end

function kinds.delete(group, head, item)
  local key, state = group.key, nil
  local old = call('HGET', key, item)
  if not old then
    return {'nothing'}
  elseif not pcall(cjson.decode, old) then
    return {'odd', old}
  end
  look_up_time(key)
  write({'HSET', key, item, old}, 'HDEL', key, item)
  if call('EXISTS', key) == 0 then
    write({'HSET', index, key, group.names}, 'HDEL', index, key)
    state = 'gone'
  else
    state = name(group)
  end
  local time = publish(key, head .. 'delete","data":' .. old .. '}', state)
  return {'done', time, old, state}
end

function kinds.send(group, head)
  look_up_time(group.key)
  local state = call('EXISTS', group.key) == 0 and 'none' or ''
  return {'done', publish(group.key, head, state), false, state}
end

local function change(group, kind, ...)
  if group.is_ambiguous and kind ~= 'send' then
    local owner = call('HGET', index, group.key)
    if owner and owner ~= group.names then
      return {'owned', owner}
    end
  end
  return kinds[kind](group, ...)
end

local groups = {}
for key = 3, #KEYS do
  local at = 2 * #groups
  local names, is_ambiguous = ARGV[at + 1], ARGV[at + 2] == '1'
  groups[#groups + 1] = {key = KEYS[key], names = names, is_ambiguous = is_ambiguous}
end
local was_lax = cjson.decode_invalid_numbers()
cjson.decode_invalid_numbers(false) -- nan is no JSON; others see the switch as it was
local answers = {}
for at = 2 * #groups + 1, #ARGV, 6 do
  local group = groups[tonumber(ARGV[at + 1])]
  undo = {}
  local is_done, answer = pcall(change, group, ARGV[at], unpack(ARGV, at + 2, at + 5))
  if not is_done then
    for step = #undo, 1, -1 do
      redis.pcall(unpack(undo[step]))
    end
    if type(answer) ~= 'table' then
      answer = {err = answer} -- before Redis 7
    end
  end
  answers[#answers + 1] = answer
end
cjson.decode_invalid_numbers(was_lax)
-- Refused where only events were sent, to a Redis that is full or takes no writes: they need no memory.
for key, time in pairs(given) do
  redis.pcall('HSET', times, key, string.format('%.0f', time))
end
return answers
