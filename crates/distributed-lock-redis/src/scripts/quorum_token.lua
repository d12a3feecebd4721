-- Steps one server's counter, or raises it to a number, if the owner has its vote.
--
-- KEYS: those of resource.lua, and the counter. ARGV: mode, owner, number ('' to step). Returns
-- {1, number}; {0} if somebody else has brought the counter there or beyond; {2} if the owner does
-- not have the vote. The counter is '<number> <token of who brought it there>'.
if not is_own() then return { 2 } end
local counter, number = KEYS[6], tonumber(ARGV[3])
local COUNTER_MS = 3600000

local function record()
  local ahead = math.max(0, math.floor(number / 1000) - now)
  redis.call('SET', counter, int(number) .. ' ' .. token, 'PX', int(COUNTER_MS + ahead))
  return { 1, int(number) }
end

local last, by = string.match(redis.call('GET', counter) or '', '^(%d+) ?(%x*)$')
last = tonumber(last) or 0
if not number then
  number = math.max(last + 1, micros)
  return record()
end
if last < number then return record() end
if last > number or by ~= token then return { 0 } end
return { 1, int(number) }
