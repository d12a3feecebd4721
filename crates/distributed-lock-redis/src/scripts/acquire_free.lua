-- The usual cases of a mutex first, in as few commands as they take. What follows is the whole story.
if ARGV[1] == 'x' then
  local _, queue, waiters, mutex, written = unpack(KEYS)
  local owner, lease = ARGV[2], ARGV[4]
  local token = string.sub(owner, 1, 32)
  if ARGV[5] == '' then
    -- Nothing is there, nobody waits, and the attempt was not withdrawn.
    if redis.call('EXISTS', mutex, waiters) == 0 then
      redis.call('SET', written, lease .. ' ' .. token, 'PX', lease)
      redis.call('SET', mutex, owner, 'PX', lease)
      return 1
    end
  elseif redis.call('GET', mutex) == owner then
    -- It was handed over; taking it works when memory has run out, too. Who handed it over has removed
    -- the entry of those who wait. A SET NX of this attempt that came late has not.
    redis.call('PEXPIRE', mutex, lease)
    if redis.call('HDEL', waiters, token) == 1 then redis.call('ZREM', queue, token) end
    return 1
  end
end
