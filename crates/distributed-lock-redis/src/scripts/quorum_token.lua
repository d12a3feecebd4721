-- Steps one server's counter, or raises it to a number, if the owner has its vote.
--
-- The counter is the sixth key: '<number> <token>', the last number and whom it was drawn for.
-- ARGV: mode, owner, number ('' to step). Returns {1, number}; {0} if somebody else has brought the
-- counter there or beyond; {2} if the owner does not have the vote.
if not is_own() then return { 2 } end
local counter, number = KEYS[6], tonumber(ARGV[3])
local COUNTER_MS = 3600000
local last, by = string.match(redis.call('GET', counter) or '0', '^(%d+) ?(%x*)$')
last = tonumber(last or '0')

local function record(drawn)
  -- If the clock went back, the counter must be seen to outlive what it has given out.
  local ahead = math.max(0, math.floor(drawn / 1000) - now)
  redis.call('SET', counter, int(drawn) .. ' ' .. token, 'PX', int(COUNTER_MS + ahead))
  return { 1, int(drawn) }
end

if not number then return record(math.max(last + 1, micros)) end
if last < number then return record(number) end
if last > number or by ~= token then return { 0 } end
return { 1, int(number) }
