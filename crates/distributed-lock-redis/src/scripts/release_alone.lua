-- Gives back a mutex that nobody waits for, in as few keys and commands as it takes.
--
-- KEYS: mutex, waiters, written. ARGV: owner. Returns 1; 0 if the owner has no hold; 2 if somebody
-- waits, and then has done nothing.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[2]) == 1 then return 2 end
redis.call('DEL', KEYS[1], KEYS[3])
return 1
