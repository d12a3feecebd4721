-- The usual case of readers and permits first: no other holder, no waiter, no late request.
local is_given_back = false
if ARGV[1] ~= 'x' and ARGV[3] == '0' then
  local holders, _, waiters, mutex = unpack(KEYS)
  local held = mutex and redis.call('GET', mutex)
  if mutex and not (held and string.find(held, '^r:%x+$') and #held == 34) then return 0 end
  if redis.call('ZREM', holders, ARGV[2]) == 0 then return 0 end
  if redis.call('EXISTS', holders, waiters) == 0 then
    if mutex then redis.call('DEL', mutex) end
    return 1
  end
  is_given_back = true
end
