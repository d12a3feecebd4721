-- The usual case of a try first, in as few commands as it takes: nothing is there, nobody waits, and
-- the attempt was not withdrawn. What follows is the whole story.
if ARGV[5] == '' then
  local holders, _, waiters, mutex, written = unpack(KEYS)
  local mode, owner, lease = ARGV[1], ARGV[2], ARGV[4]
  if mode == 'x' then
    if redis.call('EXISTS', mutex, waiters) == 0 then
      redis.call('SET', written, lease .. ' ' .. string.sub(owner, 1, 32), 'PX', lease)
      redis.call('SET', mutex, owner, 'PX', lease)
      return 1
    end
  elseif redis.call('EXISTS', holders, waiters, mutex or holders) == 0 then
    local time = redis.call('TIME')
    local ends = time[1] * 1000 + math.floor(time[2] / 1000) + lease
    redis.call('ZADD', holders, string.format('%.0f', ends), owner)
    redis.call('PEXPIRE', holders, lease)
    if mode == 's' then
      redis.call('SET', mutex, 'r:' .. string.sub(owner, 1, 32), 'PX', lease)
    end
    return 1
  end
end
