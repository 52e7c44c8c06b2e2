-- What one run of a server says of a member: with how many sockets it keeps it. The member's item is
-- written where that changes it; who is kept by nobody goes after its grace.
-- KEYS: those of making.lua, the group, its members, whom the run keeps.
-- ARGV: the group's names, whether its key may be two pairs' ('1'), the message from behind its time up to
-- its kind, the item, the run, whether it speaks for itself ('own') or has ended ('ended'), its sockets,
-- whether one of them has just come ('1'), whether its data is another than it said ('1'), the grace in ms;
-- then what this was made of: the number of the record, the value if it is there ('1') and it, the sockets
-- of others that live, and whether some run was not seen for long ('1'); the data to keep, and the new value.
-- A record is its number, `?` if what was told rests on a run that was not seen for long, a blank,
-- `<run>=<sockets>` with a `;` behind each, a line's end, and the data that was told last.
local key, members, held = KEYS[6], KEYS[7], KEYS[8]
local names, is_ambiguous, head, item, run, mode = unpack(ARGV)
local count, has_come, is_other, grace = tonumber(ARGV[7]), ARGV[8] == '1', ARGV[9] == '1', ARGV[10]
local number, was_there, expected, seen_others, was_found, data, value = unpack(ARGV, 11)
local group = {key = key, names = names, is_ambiguous = is_ambiguous == '1', ttl = ''}

-- The record's number, whether it is open (`?`), its data; the run's sockets, those of others that live,
-- whether some have not been seen for long, and all of these as they stand in the record.
local function read_record(record)
  local at = string.find(record, '\n', 1, true)
  local line, before = string.sub(record, 1, at - 1), string.sub(record, at + 1)
  local was, others, is_found, rest = nil, 0, false, ''
  for other, sockets in string.gmatch(line, '([^;= ]+)=(%d+)') do
    if other == run then
      was = tonumber(sockets)
    else
      local lease = tonumber(call('ZSCORE', runs, other) or 0)
      if lease > 0 then
        rest = rest .. other .. '=' .. sockets .. ';'
        if lease > now and lease % 1 == 0 then
          others = others + sockets
        else
          is_found = true
        end
      end
    end
  end
  local its_number, mark = string.match(line, '^(%d+)(%??)')
  return its_number, mark == '?', before, was, others, is_found, rest
end

local function keep(record_number, is_open, counts)
  local record = call('HGET', members, item)
  local back = record and {'HSET', members, item, record} or {'HDEL', members, item}
  write(back, 'HSET', members, item, string.format('%.0f', record_number + 1) .. (is_open and '? ' or ' ')
    .. counts .. '\n' .. data)
end

-- Needs no memory, so that what follows is let through by a Redis that is full.
local function let_go(name)
  if call('SREM', held, name) == 1 then
    undo[#undo + 1] = {'SADD', held, name}
  end
end

local function forget_record()
  local record = call('HGET', members, item)
  if record then
    write({'HSET', members, item, record}, 'HDEL', members, item)
  end
end

local function say()
  local owner = group.is_ambiguous and call('HGET', index, key)
  if owner and owner ~= names then
    return {'owned', owner}
  end
  local lease = tonumber(call('ZSCORE', runs, run) or 0)
  if mode == 'own' and lease == 0 then
    return {'fenced'}
  elseif mode == 'ended' and lease ~= 0 then
    return {'nothing'}
  end
  local name = called(group, item)
  local old = call('HGET', key, item)
  local record = call('HGET', members, item)
  local record_number, is_open, before, was, others, is_found, rest = '0', false, '', nil, 0, false, ''
  if record then
    record_number, is_open, before, was, others, is_found, rest = read_record(record)
  end
  if count == 0 and not was then
    let_go(name)
    return {'nothing'}
  elseif was == count and not is_other and not is_open and (old or not has_come) then
    return {'nothing'}
  end
  if count + others == 0 and not is_found then
    let_go(name)
    if old and not pcall(cjson.decode, old) then
      forget_record() -- another program has put it there: it stays
      end_never(name)
    elseif old and mode == 'ended' then
      forget_record()
      group.has_members = false
      local done = remove(group, head, item, old)
      return {'gone', done[2], done[3], done[4]}
    elseif old then
      data = before
      keep(record_number, false, '')
      end_at(name, now + grace)
    else
      forget_record()
      end_never(name)
    end
    return {'nothing'}
  end
  if number ~= record_number or (was_there == '1') ~= (old and true) or (old and old ~= expected)
    or tonumber(seen_others) ~= others or (was_found == '1') ~= is_found then
    return {'other', old, record_number, others, is_found and '1' or '', before}
  end
  if count == 0 then
    let_go(name)
  end
  keep(record_number, is_found, count > 0 and rest .. run .. '=' .. count .. ';' or rest)
  if count > 0 and call('SADD', held, name) == 1 then
    undo[#undo + 1] = {'SREM', held, name}
  end
  end_never(name)
  if old == value or (not old and record and not has_come) then
    return {'nothing'} -- somebody has deleted it: it is away until its person comes again
  end
  return put(group, head, item, old, value)
end

local _, answer = attempt(say)
finish()
return answer
