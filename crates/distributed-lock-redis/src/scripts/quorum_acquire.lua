-- One server's vote for an owner of a lock that is held on a majority of servers.
--
-- ARGV: mode, owner, max, lease, waiter ('' if nobody waits), period, channel, what waits there.
-- Returns {1} if granted, {0, whom it names as the owner}, or {2} if the round was given up before
-- this request came. Nothing is handed over here: those who wait are told, and ask everywhere.
local max, lease = tonumber(ARGV[3]), tonumber(ARGV[4])
local waiter, period, channel, waits_as = ARGV[5], ARGV[6], ARGV[7], ARGV[8]

-- A writer that waits keeps out readers that came later.
local function writer_waits()
  for _, id in ipairs(redis.call('ZRANGE', queue, 0, -1)) do
    if id == waiter then return false end
    local other = live_waiter(id)
    if not other then
      leave_queue(id)
    elseif other.mode == 'x' then
      return true
    end
  end
  return false
end

local function named()
  local held = redis.call('GET', mutex)
  if not held then return 'a writer that waits' end
  return is_marker(held) and 'readers' or held
end

local function enqueue()
  local position = redis.call('ZSCORE', queue, waiter)
  if not position or tonumber(position) > LAST_POSITION then
    redis.call('ZADD', queue, tail(), waiter)
  end
  local entry = { int(now), period, int(lease), waits_as, int(max), channel, owner }
  redis.call('HSET', waiters, waiter, table.concat(entry, ' '))
  redis.call('PEXPIRE', queue, QUEUE_MS)
  keep_waiters(QUEUE_MS)
end

if is_withdrawn(token) then
  -- What it may have set without a script.
  give_back()
  return { 2 }
end
if is_own() then
  -- Without a record of its lease, nothing ends a hold whose expiry is removed.
  if mode == 'x' then record_grant(token, lease, lease) end
  return { 1 }
end
local free = is_free(mode, max) or (cut_back(lease) and is_free(mode, max))
if free and not (mode == 's' and writer_waits()) then
  grant(mode, owner, lease, lease)
  return { 1 }
end
if waiter ~= '' then enqueue() end
return { 0, named() }
