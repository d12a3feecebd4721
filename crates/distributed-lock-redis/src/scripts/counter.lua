-- The counter of fencing tokens, the last of the keys: '<number> <token>', the last number and whom it
-- was drawn for. Of a semaphore it stands where a lock has its mutex key, which permits do not use.
local counter = KEYS[#KEYS]
local COUNTER_MS = 3600000

local function last_drawn()
  local last, by = string.match(redis.call('GET', counter) or '', '^(%d+) ?(%x*)$')
  return tonumber(last) or 0, by
end

-- If the clock went back, the counter must be seen to outlive what it has given out.
local function record(number)
  local ahead = math.max(0, math.floor(number / 1000) - now)
  redis.call('SET', counter, int(number) .. ' ' .. token, 'PX', int(COUNTER_MS + ahead))
  return int(number)
end

-- Greater than the last, and than any that a data set which was lost gave out.
local function step()
  return record(math.max(last_drawn() + 1, micros))
end
