-- Draws the next fencing token of a lock that is held: greater than the last, and than any that a
-- data set that was lost gave out.
--
-- KEYS: counter, then what shows that it is held: the mutex key for mode 'x', the holders for 'p',
-- the holders and the mutex key for 's'. ARGV: mode, owner. Returns the token, or 0 if the lock is
-- not the owner's.
local counter, place, mutex = unpack(KEYS)
local mode, owner = ARGV[1], ARGV[2]
local COUNTER_MS = 3600000

local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

local is_own
if mode == 'x' then
  is_own = redis.call('GET', place) == owner
else
  local ends = redis.call('ZSCORE', place, owner)
  is_own = ends and tonumber(ends) > now
  if is_own and mode == 's' then
    local held = redis.call('GET', mutex)
    is_own = held and #held == 34 and string.find(held, '^r:%x+$')
  end
end
if not is_own then return '0' end

local last = tonumber(redis.call('GET', counter) or '0')
local drawn = math.max((last or 0) + 1, micros)
-- If the clock went back, the counter must be seen to outlive what it has given out.
local ahead = math.max(0, math.floor(drawn / 1000) - now)
redis.call('SET', counter, string.format('%.0f', drawn), 'PX', string.format('%.0f', COUNTER_MS + ahead))
return string.format('%.0f', drawn)
