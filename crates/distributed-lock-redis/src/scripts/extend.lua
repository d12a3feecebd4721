-- Extends the leases of many locks of one owner process.
--
-- ARGV: the lease in ms; then for each lock its mode and owner. KEYS: for each lock those that its
-- mode needs. Returns for each lock 1, or 0 if it is no longer the owner's; a key of another type is not.
-- Works when memory has run out: PEXPIRE comes before ZADD.
local lease = ARGV[1]
local COUNTER_MS = 3600000
local LONGEST_LEASE_MS = 31536000000
local now = nil

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

local function extend_writer(owner, mutex, written, counter)
  if redis.call('GET', mutex) ~= owner then return 0 end
  redis.call('PEXPIRE', mutex, lease)
  redis.call('PEXPIRE', written, lease)
  -- It may have to last longer than this.
  local left = redis.call('PTTL', counter)
  if left >= 0 and left < COUNTER_MS then redis.call('PEXPIRE', counter, COUNTER_MS) end
  return 1
end

local function extend_member(owner, holders, mutex)
  local held = mutex and redis.call('GET', mutex)
  local has_marker = held and #held == 34 and string.find(held, '^r:%x+$') ~= nil
  local ends = redis.call('ZSCORE', holders, owner)
  if (mutex and not has_marker) or not ends or tonumber(ends) <= time() then return 0 end
  redis.call('PEXPIRE', holders, lease)
  redis.call('ZADD', holders, int(now + lease), owner)
  local last = redis.call('ZRANGE', holders, -1, -1, 'WITHSCORES')
  local left = int(math.min(last[2] - now, LONGEST_LEASE_MS))
  redis.call('PEXPIRE', holders, left)
  if mutex then redis.call('PEXPIRE', mutex, left) end
  return 1
end

local outcomes, key = {}, 1
for arg = 2, #ARGV, 2 do
  local mode, owner = ARGV[arg], ARGV[arg + 1]
  local extend = mode == 'x' and extend_writer or extend_member
  local last = key + (mode == 'x' and 2 or mode == 's' and 1 or 0)
  local done, outcome = pcall(extend, owner, unpack(KEYS, key, last))
  key = last + 1
  if not done then
    -- The server's error is a table from version 7 on; before, a text that names lines of this script first.
    local words = type(outcome) == 'table' and outcome.err or tostring(outcome)
    words = string.match(words, '^@.*%-(%u+ .*)$') or words
    -- Another program has put a key of another type where the lock's was; anything else strikes all, and
    -- is reported with the server's own code, which `error` would hide behind another.
    if not string.find(words, '^WRONGTYPE') then return { err = words } end
    outcome = 0
  end
  outcomes[#outcomes + 1] = outcome
end
return outcomes
