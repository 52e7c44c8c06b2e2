-- ARGV: a key of a group, iii-stream:groups, iii-stream:times, the channel of events, that of cuts.
-- Two lists: what this user must be allowed to do and is not, and what it should be. Redis before 7
-- cannot be asked.
local group, index, times, events, cuts = unpack(ARGV)
local must = {
  {'HGET', group, 'i'}, {'HSET', group, 'i', '1'}, {'HDEL', group, 'i'}, {'HLEN', group},
  {'HVALS', group}, {'HGETALL', group}, {'EXISTS', group},
  {'HGET', index, 'i'}, {'HSET', index, 'i', '1'}, {'HDEL', index, 'i'}, {'HLEN', index},
  {'HEXISTS', index, 'i'}, {'HSCAN', index, '0'},
  {'HGET', times, 'i'}, {'HSET', times, 'i', '1'}, {'HDEL', times, 'i'}, {'HLEN', times},
  {'HSCAN', times, '0'},
  {'SCAN', '0'}, {'TIME'}, {'MULTI'}, {'EXEC'},
  {'PUBLISH', events, '1'}, {'PUBLISH', cuts, '1'}, {'SUBSCRIBE', events}, {'SUBSCRIBE', cuts},
}
local should = {{'INFO'}, {'CONFIG', 'GET', 'maxmemory-policy'}, {'ROLE'}, {'DBSIZE'}}
local function lacking(wanted)
  local found = {}
  for _, command in ipairs(wanted) do
    if redis.acl_check_cmd and not redis.acl_check_cmd(unpack(command)) then
      found[#found + 1] = command[2] and command[1] .. ' ' .. command[2] or command[1]
    end
  end
  return table.concat(found, ', ')
end
return {lacking(must), lacking(should)}
