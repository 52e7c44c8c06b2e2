-- ARGV: the message from behind its time up to the keys of our own.
local state = ''
if redis.call('EXISTS', group) == 0 then
  state = 'none'
end
local time = publish(ARGV[1], state)
return {'done', time, false, state}
