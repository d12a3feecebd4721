-- Extends the leases of many locks of one owner process.
--
-- ARGV: the lease in ms; then for each lock its mode and owner. KEYS: for each lock those that its
-- mode needs. Returns for each lock 1, or 0 if it is no longer the owner's. Works when memory has
-- run out: PEXPIRE comes before ZADD.
local lease = ARGV[1]
local COUNTER_MS = 3600000
local now = nil
local outcomes, key = {}, 1

local function time()
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return now
end

local function int(number)
  return string.format('%.0f', number)
end

for arg = 2, #ARGV, 2 do
  local mode, owner = ARGV[arg], ARGV[arg + 1]
  local extended = 0
  if mode == 'x' then
    local mutex, written, counter = KEYS[key], KEYS[key + 1], KEYS[key + 2]
    key = key + 3
    if redis.call('GET', mutex) == owner then
      redis.call('PEXPIRE', mutex, lease)
      redis.call('PEXPIRE', written, lease)
      redis.call('PEXPIRE', counter, COUNTER_MS)
      extended = 1
    end
  else
    local holders, mutex = KEYS[key], mode == 's' and KEYS[key + 1]
    key = key + (mutex and 2 or 1)
    local held = mutex and redis.call('GET', mutex)
    local has_marker = held and #held == 34 and string.find(held, '^r:%x+$') ~= nil
    local ends = redis.call('ZSCORE', holders, owner)
    if (not mutex or has_marker) and ends and tonumber(ends) > time() then
      redis.call('PEXPIRE', holders, lease)
      redis.call('ZADD', holders, int(now + lease), owner)
      local last = redis.call('ZRANGE', holders, -1, -1, 'WITHSCORES')
      redis.call('PEXPIRE', holders, int(last[2] - now))
      if mutex then redis.call('PEXPIRE', mutex, int(last[2] - now)) end
      extended = 1
    end
  end
  outcomes[#outcomes + 1] = extended
end
return outcomes
