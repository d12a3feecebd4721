-- The usual case of readers and permits first: nobody else holds, nobody waits.
do
  local holders, _, waiters, mutex = unpack(KEYS)
  if ARGV[1] ~= 'x' and redis.call('EXISTS', waiters) == 0 and redis.call('ZCARD', holders) == 1 then
    local held = mutex and redis.call('GET', mutex)
    if mutex and not (held and string.find(held, '^r:%x+$') and #held == 34) then return 0 end
    local ended = redis.call('ZREM', holders, ARGV[2])
    if ended == 1 and mutex then redis.call('DEL', mutex) end
    return ended
  end
end
