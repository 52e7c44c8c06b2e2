-- ARGV: a key of a group, iii-stream:groups, iii-stream:times, the channel of events, that of cuts,
-- iii-stream:ends, iii-stream:ttls, iii-stream:runs, the members of a group, whom a run keeps.
-- Four lists: what this user must be allowed to do and is not, what it should be, and what it must be where
-- items end, and where there are members. Redis before 7 cannot be asked.
local group, index, times, events, cuts, ends, ttls, runs, members, run = unpack(ARGV)
local must = {
  {'HGET', group, 'i'}, {'HSET', group, 'i', '1'}, {'HDEL', group, 'i'}, {'HLEN', group},
  {'HVALS', group}, {'HGETALL', group}, {'EXISTS', group},
  {'HGET', index, 'i'}, {'HSET', index, 'i', '1'}, {'HDEL', index, 'i'}, {'HLEN', index},
  {'HEXISTS', index, 'i'}, {'HSCAN', index, '0'},
  {'HGET', times, 'i'}, {'HSET', times, 'i', '1'}, {'HDEL', times, 'i'}, {'HLEN', times},
  {'HSCAN', times, '0'},
  {'EXISTS', ends, ttls}, {'EXISTS', members},
  {'SCAN', '0'}, {'TIME'}, {'MULTI'}, {'EXEC'},
  {'PUBLISH', events, '1'}, {'PUBLISH', cuts, '1'}, {'SUBSCRIBE', events}, {'SUBSCRIBE', cuts},
}
local should = {{'INFO'}, {'CONFIG', 'GET', 'maxmemory-policy'}, {'ROLE'}, {'DBSIZE'}}
local of_ends = {
  {'ZADD', ends, '1', 'i'}, {'ZREM', ends, 'i'}, {'ZSCORE', ends, 'i'}, {'ZCARD', ends},
  {'ZRANGEBYSCORE', ends, '0', '1'},
  {'HGET', ttls, 'i'}, {'HSET', ttls, 'i', '1'}, {'HDEL', ttls, 'i'}, {'HLEN', ttls},
}
local of_members = {
  {'ZADD', runs, '1', 'i'}, {'ZREM', runs, 'i'}, {'ZSCORE', runs, 'i'}, {'ZRANGE', runs, '0', '1'},
  {'HGET', members, 'i'}, {'HSET', members, 'i', '1'}, {'HDEL', members, 'i'}, {'HEXISTS', members, 'i'},
  {'SADD', run, 'i'}, {'SREM', run, 'i'}, {'SRANDMEMBER', run, '1'},
}
local function lacking(wanted)
  local found = {}
  for _, command in ipairs(wanted) do
    if redis.acl_check_cmd and not redis.acl_check_cmd(unpack(command)) then
      found[#found + 1] = command[2] and command[1] .. ' ' .. command[2] or command[1]
    end
  end
  return table.concat(found, ', ')
end
return {lacking(must), lacking(should), lacking(of_ends), lacking(of_members)}
