-- Changes, in their order, each by itself: one that fails changes nothing and keeps no other from
-- being made.
-- KEYS: those of making.lua, the groups.
-- ARGV: of each group its names, as the index has them, whether the key may be two pairs' ('1'), and how
-- long its stream's items last, in ms ('': for good); then of each change what it does, the number of its
-- group, the message from behind its time up to its kind ('send': up to the keys of our own), the item,
-- the new value, the value that it must still have ('swap'), and how long it is to last.
-- Answers one for each change.

local kinds = {}

function kinds.set(group, head, item, value, _, ttl)
  local old = call('HGET', group.key, item)
  if old and not pcall(cjson.decode, old) then
    return {'odd', old}
  end
  return put(group, head, item, old, value, ttl)
end

function kinds.swap(group, head, item, value, expected, ttl)
  local old = call('HGET', group.key, item)
  if old ~= expected then
    return {'other', old}
  end
  return put(group, head, item, old, value, ttl)
end

-- A swap where there was nothing.
function kinds.make(group, head, item, value, _, ttl)
  return kinds.swap(group, head, item, value, false, ttl)
end

function kinds.delete(group, head, item)
  local old = call('HGET', group.key, item)
  if not old then
    return {'nothing'}
  elseif not pcall(cjson.decode, old) then
    return {'odd', old}
  end
  return remove(group, head, item, old)
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
for key = 6, #KEYS do
  local at = 3 * #groups
  local names, is_ambiguous, ttl = ARGV[at + 1], ARGV[at + 2] == '1', ARGV[at + 3]
  groups[#groups + 1] = {key = KEYS[key], names = names, is_ambiguous = is_ambiguous, ttl = ttl}
end
local answers = {}
for at = 3 * #groups + 1, #ARGV, 7 do
  local group = groups[tonumber(ARGV[at + 1])]
  local _, answer = attempt(change, group, ARGV[at], unpack(ARGV, at + 2, at + 6))
  answers[#answers + 1] = answer
end
finish()
return answers
