-- The usual case first: a mutex that nobody waits for, and no request of it can come later.
if ARGV[1] == 'x' and ARGV[3] == '0' and ARGV[4] == '' and redis.call('EXISTS', KEYS[3]) == 0 then
  if redis.call('GET', KEYS[4]) ~= ARGV[2] then return 0 end
  redis.call('DEL', KEYS[4], KEYS[5])
  return 1
end
