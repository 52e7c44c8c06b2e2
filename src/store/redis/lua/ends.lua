-- What a run of a server says every now and then: it lives; and what has had its time goes, each once,
-- whichever run asks. By Redis's clock.
-- KEYS: those of making.lua.
-- ARGV: how many items may go, and how many bytes of values; the run ('': it keeps no members), what it does
-- ('begin', 'keep', 'look' without a new lease, 'end', 'rest'), its lease in ms, how long it waits for runs
-- that it found ended, since when it looks ('': from now on), and how many members it takes of such; then of
-- items that others have written past our scripts their groups' names, their own, and how long those of
-- their stream last.
-- Answers whether more are due ('1'), whether any item ends, what became of the run ('kept'; 'late': others
-- may have taken it for ended; 'fenced', ''), the time, a run that has ended and members that it kept; then
-- of each item that went its group's names, its own, its time, its last value, what became of the group, and
-- whether it was a member's ('1').
-- A run's lease is when it ends, half a ms more if it has said itself that it has, and 0 once others have
-- found it dead: it never lives again.
local most_items, most_bytes = tonumber(ARGV[1]), tonumber(ARGV[2])
local run, does, lease_ms = ARGV[3], ARGV[4], tonumber(ARGV[5])
local patience_ms, since, most_members = tonumber(ARGV[6]), tonumber(ARGV[7]) or now, tonumber(ARGV[8])
-- An end that cannot be carried out is tried again so much later, so that it keeps no other waiting.
local put_off_ms = 60000

local escapes = {['"'] = '\\"', ['\\'] = '\\\\', ['\b'] = '\\b', ['\t'] = '\\t', ['\n'] = '\\n',
  ['\f'] = '\\f', ['\r'] = '\\r'}
local function quoted(text)
  return '"' .. string.gsub(text, '[%z\1-\31"\\]', function(char)
    return escapes[char] or string.format('\\u%04x', string.byte(char))
  end) .. '"'
end

-- The group of these names, as the index has them.
local function group_of(names, ttl)
  local pair = cjson.decode(names)
  local key = 'stream:' .. pair[1] .. ':' .. pair[2]
  local _, colons = string.gsub(key, ':', '')
  return {key = key, names = names, is_ambiguous = colons > 2, ttl = ttl}
end

-- The message from behind its time up to its kind. No quote in a name stands between two others.
local function head_of(group, item)
  local at = string.find(group.names, '","', 1, true)
  return ',"streamName":' .. string.sub(group.names, 2, at) .. ',"groupId":'
    .. string.sub(group.names, at + 2, -2) .. ',"id":' .. quoted(item) .. ',"event":{"type":"'
end

-- What others have written lasts as what is written here.
local function renew_written(names, item, ttl)
  local group = group_of(names, ttl)
  if call('HEXISTS', group.key, item) == 1 then
    renew(group, item, false, '')
  else
    forget_end(group, item)
  end
end

local function end_item(name)
  local at = string.find(name, ':', 1, true)
  local len = tonumber(string.sub(name, 1, at - 1))
  local group = group_of(string.sub(name, at + 1, at + len), '')
  local item = string.sub(name, at + len + 1)
  local owner = group.is_ambiguous and call('HGET', index, group.key)
  local old = (not owner or owner == group.names) and call('HGET', group.key, item)
  local was_member = is_member(group, item)
  if was_member then
    local record = call('HGET', members_of(group), item)
    if string.find(string.match(record, '^[^\n]*'), '=', 1, true) then
      return end_never(name) -- somebody keeps it
    end
    write({'HSET', members_of(group), item, record}, 'HDEL', members_of(group), item)
    group.has_members = false
  end
  -- What is no JSON another program has put there.
  if not old or not pcall(cjson.decode, old) then
    return forget_end(group, item)
  end
  local done = remove(group, head_of(group, item), item, old)
  return {group.names, item, done[2], old, done[4], was_member and '1' or ''}
end

local function set_lease(of, lease)
  call('ZADD', runs, string.format('%.1f', lease), of)
end

-- Before all others in its place, which is what stands before the `#`: they have ended.
local function end_others_here()
  local place = string.match(run, '^[^#]+#')
  local all = call('ZRANGE', runs, 0, -1, 'WITHSCORES')
  for at = 1, place and #all or 0, 2 do
    local lease = tonumber(all[at + 1])
    if string.sub(all[at], 1, #place) == place and lease > 0 and lease % 1 == 0 then
      set_lease(all[at], lease + 0.5)
    end
  end
end

local function keep_lease()
  local lease = tonumber(call('ZSCORE', runs, run) or 0)
  if does == 'begin' then
    set_lease(run, now + lease_ms)
    end_others_here()
    set_lease(run, now + lease_ms)
  elseif lease == 0 then
    return 'fenced'
  elseif does == 'keep' then
    set_lease(run, now + lease_ms)
    if lease <= now or lease % 1 ~= 0 then
      return 'late'
    end
  elseif does == 'end' then
    set_lease(run, now + lease_ms + 0.5)
  end
  return 'kept'
end

-- Whoever was last seen alive before this run looked is waited for: a loss of Redis is nobody's end.
local function is_dead(lease)
  if lease == 0 then
    return true
  end
  lease = math.floor(lease)
  return lease <= now and (lease >= since + lease_ms or now >= since + patience_ms)
end

-- One that has ended, and some of those whom it kept.
local function ended_run()
  local all = call('ZRANGE', runs, 0, -1, 'WITHSCORES')
  for at = 1, #all, 2 do
    local other, lease = all[at], tonumber(all[at + 1])
    if other ~= run and is_dead(lease) then
      if lease > 0 then
        set_lease(other, 0)
      end
      local names = call('SRANDMEMBER', 'iii-stream:run:' .. other, most_members)
      if #names > 0 then
        table.insert(names, 1, other)
        return names
      end
      call('ZREM', runs, other)
    end
  end
  return {}
end

local life, found = '', {}
if run ~= '' then
  life = select(2, attempt(keep_lease))
  if life == 'kept' and (does == 'keep' or does == 'look') and most_members > 0 then
    local has_found, names = pcall(ended_run)
    found = has_found and names or {}
  end
end
for at = 9, #ARGV, 3 do
  attempt(renew_written, ARGV[at], ARGV[at + 1], ARGV[at + 2])
end
local due = redis.pcall('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, most_items)
local used = has_ends and '1' or ''
local answers, bytes = {'', used, life, now, found, due.err and due or nil}, 0
for count, name in ipairs(due) do
  local is_done, ended = attempt(end_item, name)
  if not is_done then
    local was_put_off = redis.pcall('ZADD', ends, now + put_off_ms, name)
    if type(was_put_off) == 'table' then
      answers[#answers + 1] = was_put_off -- it takes no writes at all
      break
    end
  elseif ended then
    answers[#answers + 1] = ended
    bytes = bytes + #ended[4]
  end
  if count == most_items or bytes >= most_bytes then
    answers[1] = '1'
    break
  end
end
finish()
return answers
