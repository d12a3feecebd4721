-- Lets a reader or a permit in where nobody else is, in as few keys and commands as it takes.
--
-- KEYS: holders, waiters; of a lock also its mutex. ARGV: owner, lease. Returns 1; 2 if somebody holds
-- or waits, or the attempt was withdrawn, and then has done nothing.
local holders, mutex, owner, lease = KEYS[1], KEYS[3], ARGV[1], ARGV[2]
if redis.call('EXISTS', unpack(KEYS)) > 0 then return 2 end
local time = redis.call('TIME')
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + lease
redis.call('ZADD', holders, string.format('%.0f', ends), owner)
redis.call('PEXPIRE', holders, lease)
if mutex then redis.call('SET', mutex, 'r:' .. string.sub(owner, 1, 32), 'PX', lease) end
return 1
