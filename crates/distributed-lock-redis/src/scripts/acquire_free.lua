-- The usual cases of a mutex first, in as few commands as they take. What follows handles every case.
if ARGV[1] == 'x' then
  local _, queue, waiters, mutex, written = unpack(KEYS)
  local owner, lease = ARGV[2], ARGV[4]
  local token = string.sub(owner, 1, 32)
  if ARGV[5] == '' then
    -- No holder, no waiter, and the attempt was not withdrawn.
    if redis.call('EXISTS', mutex, waiters) == 0 then
      redis.call('SET', written, lease .. ' ' .. token .. ' granted', 'PX', lease)
      redis.call('SET', mutex, owner, 'PX', lease)
      return 1
    end
  elseif
    redis.call('GET', mutex) == owner
    and redis.call('GET', written) == lease .. ' ' .. token .. ' granted'
    and not redis.call('HGET', waiters, token)
  then
    -- It was handed over, which has removed the entry in the queue; taking it works when memory has
    -- run out, too. Another record or an entry would mean that a late SET NX has set it, or that it was
    -- withdrawn.
    redis.call('PEXPIRE', mutex, lease)
    return 1
  end
end
