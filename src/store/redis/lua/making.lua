-- What changes are made of. Stands behind common.lua, before the scripts that make some.
-- KEYS: iii-stream:groups, iii-stream:times, iii-stream:ends, iii-stream:ttls, iii-stream:runs, and those of
-- the script.
-- What may be refused is done before the event goes out, which cannot be taken back; what was done by
-- then can, and is.
local call = redis.call
local index, times, ends, ttls, runs = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local now = clock()
local lasts, given = {}, {} -- by key: the group's last time, and the same if it is new
local undo -- how what the change under way has done is taken back, in its order

-- If they are of another kind, nothing is done at all.
call('HLEN', index)
call('HLEN', times)
local has_ends = call('EXISTS', ends, ttls) > 0
if has_ends then
  call('ZCARD', ends)
  call('HLEN', ttls)
end

local function write(back, ...)
  call(...)
  undo[#undo + 1] = back
end

local function take_back()
  for step = #undo, 1, -1 do
    redis.pcall(unpack(undo[step]))
  end
end

-- Does it whole or not at all. Whether it was done, and what it gives, or the error.
local function attempt(step, ...)
  undo = {}
  local is_done, given_back = pcall(step, ...)
  if not is_done then
    take_back()
    if type(given_back) ~= 'table' then
      given_back = {err = given_back} -- before Redis 7
    end
  end
  return is_done, given_back
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

-- How an item is called in `ends` and `ttls`: the names of its group say how long they are.
local function called(group, item)
  return #group.names .. ':' .. group.names .. item
end

local function end_at(item, at)
  local before = call('ZSCORE', ends, item)
  local back = before and {'ZADD', ends, before, item} or {'ZREM', ends, item}
  write(back, 'ZADD', ends, string.format('%.0f', at), item)
  has_ends = true
end

local function end_never(item)
  local before = call('ZSCORE', ends, item)
  if before then
    write({'ZADD', ends, before, item}, 'ZREM', ends, item)
  end
end

local function keep_ttl(item, before, ttl)
  local back = before and {'HSET', ttls, item, before} or {'HDEL', ttls, item}
  if ttl and ttl ~= before then
    write(back, 'HSET', ttls, item, ttl)
    has_ends = true
  elseif before and not ttl then
    write(back, 'HDEL', ttls, item)
  end
end

-- Where it is kept who is a member of a group, and by whom.
local function members_of(group)
  return 'iii-stream:members:' .. group.key
end

-- A member's item ends as its grace does, and no other way.
local function is_member(group, item)
  if group.has_members == nil then
    group.has_members = call('EXISTS', members_of(group)) == 1
  end
  return group.has_members and call('HEXISTS', members_of(group), item) == 1
end

-- An item is written: it lasts as long as is said with it, as it was told last, or as its stream's do.
-- `ttl`: in ms, '0' for good, '' where nothing is said.
local function renew(group, item, is_new, ttl)
  if not has_ends and group.ttl == '' and (ttl == '' or ttl == '0') then
    return
  elseif is_member(group, item) then
    return
  end
  item = called(group, item)
  local before = call('HGET', ttls, item)
  local own = ttl ~= '' and ttl or not is_new and before
  if own == '0' and group.ttl == '' then
    own = false
  end
  keep_ttl(item, before, own)
  local ms = tonumber(own or group.ttl) or 0
  if ms > 0 then
    end_at(item, now + ms)
  else
    end_never(item)
  end
end

-- What is kept of an item that is gone goes.
local function forget_end(group, item)
  if has_ends and not is_member(group, item) then
    item = called(group, item)
    keep_ttl(item, call('HGET', ttls, item), false)
    end_never(item)
  end
end

-- An item is written. `ttl`: as `renew` takes it; none: its end is not touched.
local function put(group, head, item, old, value, ttl)
  local key, state = group.key, nil
  look_up_time(key)
  if not old and call('EXISTS', key) == 0 then
    write({'HDEL', index, key}, 'HSET', index, key, group.names)
    state = 'new'
  else
    state = name(group)
  end
  write(old and {'HSET', key, item, old} or {'HDEL', key, item}, 'HSET', key, item, value)
  if ttl then
    renew(group, item, not old, ttl)
  end
  local kind = old and 'update","data":' or 'create","data":'
  local time = publish(key, head .. kind .. value .. '}', state)
  return {'done', time, old, state}
end

-- An item goes, with its last value.
local function remove(group, head, item, old)
  local key, state = group.key, nil
  look_up_time(key)
  write({'HSET', key, item, old}, 'HDEL', key, item)
  if call('EXISTS', key) == 0 then
    write({'HSET', index, key, group.names}, 'HDEL', index, key)
    state = 'gone'
  else
    state = name(group)
  end
  forget_end(group, item)
  local time = publish(key, head .. 'delete","data":' .. old .. '}', state)
  return {'done', time, old, state}
end

local was_lax = cjson.decode_invalid_numbers()
cjson.decode_invalid_numbers(false) -- nan is no JSON; others see the switch as it was

-- At the end of a script. Times are refused where only events were sent, to a Redis that is full or takes no
-- writes: they need no memory.
local function finish()
  cjson.decode_invalid_numbers(was_lax)
  for key, time in pairs(given) do
    redis.pcall('HSET', times, key, string.format('%.0f', time))
  end
end
