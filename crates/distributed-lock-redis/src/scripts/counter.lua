-- The counter of fencing tokens, the last of the keys: '<number> <token>', the last number and whom it
-- was drawn for. Of a semaphore it stands where a lock has its mutex key, which permits do not use.
local counter = KEYS[#KEYS]
local COUNTER_MS = 3600000
-- Greater numbers are not exact in a script: they are counted on as texts, up to the last that has 64
-- bits.
local LAST_EXACT = 9007199254740991
local LAST_TOKEN = '18446744073709551615'

local function read_counter()
  return string.match(redis.call('GET', counter) or '', '^0*(%d+) ?(%x*)$')
end

-- Compares numbers as texts without leading zeros, because greater ones are not exact.
local function is_greater(one, other)
  if #one ~= #other then return #one > #other end
  return one > other
end

-- If the clock went back, the counter must be seen to outlive what it has given out.
local function write_counter(text)
  local ahead = math.max(0, math.floor(tonumber(text) / 1000) - now)
  redis.call('SET', counter, text .. ' ' .. token, 'PX', int(COUNTER_MS + ahead))
  return text
end

local function record(number)
  return write_counter(int(number))
end

-- The number after one of more than nine digits.
local function successor(digits)
  local high, low = string.sub(digits, 1, -10), tonumber(string.sub(digits, -9)) + 1
  if low < 1000000000 then return high .. string.format('%09d', low) end
  return int(tonumber(high) + 1) .. '000000000'
end

-- Greater than the last, and than any that a data set which was lost gave out. Nil if there is none.
local function step()
  local last = read_counter() or '0'
  if tonumber(last) < LAST_EXACT then return record(math.max(tonumber(last) + 1, micros)) end
  if not is_greater(LAST_TOKEN, last) then return nil end
  return write_counter(successor(last))
end
