-- The usual case first, in as few commands as it takes: nobody else holds, nobody waits.
do
  local holders, _, waiters, _, mutex = unpack(KEYS)
  if ARGV[1] == 'x' then
    if redis.call('GET', mutex) ~= ARGV[2] then return 0 end
    if redis.call('EXISTS', waiters) == 0 then return redis.call('DEL', mutex) end
  elseif redis.call('EXISTS', waiters) == 0 and redis.call('ZCARD', holders) == 1 then
    local held = mutex and redis.call('GET', mutex)
    if mutex and not (held and string.find(held, '^r:%x+$') and #held == 34) then return 0 end
    local ended = redis.call('ZREM', holders, ARGV[2])
    if ended == 1 and mutex then redis.call('DEL', mutex) end
    return ended
  end
end
