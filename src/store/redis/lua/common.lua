-- Stands before every script.

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- A time that is kept, by the clock's time; one that is an hour ahead is nobody's who means well.
local function believed(text, now)
  local time = tonumber(text or 0) or 0
  return time <= now + 3600000 and math.floor(time) or 0
end
