-- Stands before every script. KEYS: the group, iii-stream:groups, iii-stream:times.
local group, groups, times = KEYS[1], KEYS[2], KEYS[3]

-- The names that own the key, if they are not these. Only names with a further colon can be two pairs.
local function other_owner(names, is_ambiguous)
  if is_ambiguous ~= '1' then
    return false
  end
  local owner = redis.call('HGET', groups, group)
  return owner and owner ~= names and owner
end

-- Long texts are looked at from both ends only: a parser would hold everybody up.
local function is_json(text)
  if #text <= 65536 then
    return (pcall(cjson.decode, text))
  end
  local ends = string.sub(text, 1, 1) .. string.sub(text, -1)
  return ends == '{}' or ends == '[]' or ends == '""'
end

-- What the change does to the group as a whole; the key is as the change left it.
local function after_set(names, is_ambiguous, is_new)
  if is_new and redis.call('HLEN', group) == 1 then
    redis.call('HSET', groups, group, names)
    return 'new'
  end
  if is_ambiguous == '1' and redis.call('HSETNX', groups, group, names) == 1 then
    return 'named'
  end
  return ''
end

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- `event` is the message from behind its time up to the keys of our own.
local function publish(event, state)
  local last = tonumber(redis.call('HGET', times, group) or 0)
  local time = math.max(now(), last + 1)
  local digits = string.format('%.0f', time)
  redis.call('HSET', times, group, digits)
  redis.call('PUBLISH', 'stream::events',
    '{"type":"stream","timestamp":' .. digits .. event .. ',"iii-stream":"' .. state .. '"}')
  return time
end
