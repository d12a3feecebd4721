-- The usual case first, in as few commands as it takes: nothing is there, nobody waits, and the
-- attempt was not withdrawn. What follows is the whole story.
do
  local holders, _, waiters, counter, mutex = unpack(KEYS)
  local there = ARGV[1] == 'x' and redis.call('EXISTS', mutex, waiters)
    or redis.call('EXISTS', holders, waiters, mutex or holders)
  if there == 0 then
    local mode, owner, lease = ARGV[1], ARGV[2], ARGV[4]
    local token = string.sub(owner, 1, 32)
    local time = redis.call('TIME')
    local drawn = time[1] .. string.format('%06d', time[2])
    local rest = ' ' .. lease .. ' ' .. token
    local last = redis.call('SET', counter, drawn .. rest, 'PX', 3600000, 'GET')
    last = last and tonumber(string.match(last, '^%d+'))
    if last and last >= tonumber(drawn) then
      -- The clock went back. It must be seen to outlive what it has given out.
      drawn = string.format('%.0f', last + 1)
      local ahead = (last - time[1] * 1000000 - time[2]) / 1000
      redis.call('SET', counter, drawn .. rest, 'PX', string.format('%.0f', 3600000 + ahead))
    end
    if mode == 'x' then
      redis.call('SET', mutex, owner, 'PX', lease)
    else
      local ends = time[1] * 1000 + math.floor(time[2] / 1000) + lease
      redis.call('ZADD', holders, string.format('%.0f', ends), owner)
      redis.call('PEXPIRE', holders, lease)
      if mode == 's' then redis.call('SET', mutex, 'r:' .. token, 'PX', lease) end
    end
    return { 1, drawn }
  end
end
