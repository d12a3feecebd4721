-- The state of one resource, and the steps that more than one script makes.
--
-- A lock is free if its mutex key is absent. While a writer holds, that key is '<token>[ <label>]',
-- and `written` records its lease, '<lease> <token>[ granted]'; while readers hold, it is the marker
-- 'r:<token>' with the expiry of the last of them, and each reader is a member of `holders`. A
-- semaphore has no mutex key: its permits are members of `holders`. A member is
-- '<token> <lease>[ <label>]', its score the end of its lease.
--
-- Waiters are members of `queue`, in the order of their positions; `waiters` has for each
-- '<tick> <period> <lease> <mode> <max> <channel> <owner>'. For an attempt that was withdrawn while a
-- request of it was on its way, `waiters` keeps a tombstone: until when. So if `waiters` is absent,
-- there is no waiter and no tombstone. All times are the server's, in ms.
--
-- A free lock without waiters is taken without a script, by SET NX of the mutex key and of `written`,
-- and a look at `waiters`: see free.rs. Only a script writes 'granted': a lock without that word was
-- set by SET NX, and its client holds it only if it saw no waiter.
--
-- A script is not rolled back when it fails. So it checks first; a script that must also work when
-- memory has run out begins to write with a command that is never refused; one that must not
-- begins with SET; what makes an owner is written last.
--
-- Values that this library does not write are taken for damage: an entry that cannot be read is
-- removed, and one that would last too long is cut back, where no holder relies on it.
local holders, queue, waiters, mutex, written = unpack(KEYS)
local mode, owner = ARGV[1], ARGV[2]
local token = string.sub(owner, 1, 32)

local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

-- How long the queue outlives its last tick.
local QUEUE_MS = 10000
-- A lock that was handed over and is not taken passes on after this.
local PROVISIONAL_MS = 3000
-- No lease and no period is longer, no semaphore has more permits, no position is greater (it is a
-- time of the server in µs, in the year 2112).
local LONGEST_LEASE_MS = 31536000000
local LONGEST_PERIOD_MS = 60000
local MOST_PERMITS = 4294967295
local LAST_POSITION = 4503599627370496
-- How many entries `waiters` has when old tombstones are looked for: each multiple of this.
local PRUNED_AT = 32

local function int(number)
  return string.format('%.0f', number)
end

-- The number that a text is, from 1 to `most`; else nil.
local function number_up_to(most, text)
  local number = text and tonumber(text)
  return number and number >= 1 and number <= most and number or nil
end

local function is_marker(value)
  return #value == 34 and string.find(value, '^r:%x+$') ~= nil
end

-- A request that comes although its attempt was withdrawn finds until when it counts as withdrawn.
local function is_withdrawn(id)
  local entry = redis.call('HGET', waiters, id)
  local till = entry and string.match(entry, '^%d+$')
  return till ~= nil and till ~= false and tonumber(till) > now
end

-- Lets the keys that stand for all readers or permits end with the last of them.
local function settle()
  redis.call('ZREMRANGEBYSCORE', holders, '-inf', int(now))
  local last = redis.call('ZRANGE', holders, -1, -1, 'WITHSCORES')
  if last[2] then
    local left = int(math.min(last[2] - now, LONGEST_LEASE_MS))
    redis.call('PEXPIRE', holders, left)
    if mutex then redis.call('PEXPIRE', mutex, left) end
  elseif mutex then
    redis.call('DEL', mutex)
  end
end

local function is_free(mode, max)
  if mode == 'p' then
    return redis.call('ZCOUNT', holders, '(' .. int(now), '+inf') < max
  end
  local held = redis.call('GET', mutex)
  if not held then return true end
  if is_marker(held) then return mode == 's' end
  -- Taken without a script by a request that came after its attempt was withdrawn.
  if not is_withdrawn(string.sub(held, 1, 32)) then return false end
  redis.call('DEL', mutex)
  return true
end

-- Whether the caller has it: it was handed over, or asked for in a request whose reply was lost.
local function is_own()
  if mode == 'x' then return redis.call('GET', mutex) == owner end
  local ends = redis.call('ZSCORE', holders, owner)
  if not ends or tonumber(ends) <= now then return false end
  if mode == 'p' then return true end
  local held = redis.call('GET', mutex)
  return held and is_marker(held)
end

-- Records that a script has granted the mutex key to an attempt, for so many ms.
local function record_grant(id, lease, ms)
  redis.call('SET', written, int(lease) .. ' ' .. id .. ' granted', 'PX', int(ms))
end

-- Makes an owner of a lease of which it gets `left` ms for now. What makes it one is written last.
local function grant(mode, owner, lease, left)
  left = int(left)
  if mode == 'x' then
    -- It must outlast a lease that begins when the hand-over is confirmed.
    record_grant(string.sub(owner, 1, 32), lease, lease + PROVISIONAL_MS)
    redis.call('SET', mutex, owner, 'PX', left)
    return
  end
  local is_first = mode == 's' and redis.call('EXISTS', mutex) == 0
  if is_first then
    -- Readers whose marker is gone have lost the lock: a writer may have had it since.
    redis.call('DEL', holders)
    redis.call('SET', mutex, 'r:' .. string.sub(owner, 1, 32), 'PX', left)
  end
  redis.call('ZADD', holders, int(now + left), owner)
  settle()
end

-- Ends the caller's hold; false if it has none.
local function give_back()
  if mode == 'x' then
    if redis.call('GET', mutex) ~= owner then return false end
    redis.call('DEL', mutex, written)
    return true
  end
  if mode == 's' then
    local held = redis.call('GET', mutex)
    if not held or not is_marker(held) then return false end
  end
  if redis.call('ZREM', holders, owner) == 0 then return false end
  settle()
  return true
end

-- Tombstones last longer than the ticks of waiters.
local function keep_waiters(ms)
  if redis.call('PTTL', waiters) < tonumber(ms) then redis.call('PEXPIRE', waiters, ms) end
end

local function leave_queue(id)
  redis.call('ZREM', queue, id)
  redis.call('HDEL', waiters, id)
end

-- Removes tombstones that have ended and entries of no waiter.
local function prune()
  local all = redis.call('HGETALL', waiters)
  for i = 1, #all, 2 do
    local till = string.match(all[i + 1], '^%d+$')
    local is_stale = till and tonumber(till) <= now
    if is_stale or (not till and not redis.call('ZSCORE', queue, all[i])) then
      redis.call('HDEL', waiters, all[i])
    end
  end
end

-- A request of this attempt that comes within so many ms finds that it was withdrawn.
local function leave_tombstone(ms)
  redis.call('HSET', waiters, token, int(now + ms))
  keep_waiters(ms)
  if redis.call('HLEN', waiters) % PRUNED_AT == 0 then prune() end
end

-- A waiter is live if it has ticked within three periods and its channel has a subscriber. A client
-- that subscribes to every channel is not counted by NUMSUB, but is by the reply of PUBLISH.
local function live_waiter(id)
  local tick, rest = string.match(redis.call('HGET', waiters, id) or '', '^(%d+) (.+)$')
  if not tick then return nil end
  local period, lease, mode, max, channel, owner =
    string.match(rest, '^(%d+) (%d+) ([xsp]) (%d+) (%S+) (.+)$')
  period = number_up_to(LONGEST_PERIOD_MS, period)
  lease = number_up_to(LONGEST_LEASE_MS, lease)
  max = number_up_to(MOST_PERMITS, max)
  if not (period and lease and max) then return nil end
  if tonumber(tick) > now then
    -- The clock went back: from here on the tick ages as it should.
    redis.call('HSET', waiters, id, int(now) .. ' ' .. rest)
  elseif now - tick > 3 * period then
    return nil
  end
  local listening = redis.pcall('PUBSUB', 'NUMSUB', channel)
  if not listening.err and listening[2] == 0 then return nil end
  return { mode = mode, max = max, lease = lease, channel = channel, owner = owner }
end

-- A live waiter for this resource that asks for itself.
local function next_waiter(id)
  local waiter = live_waiter(id)
  local is_permit = waiter and waiter.mode == 'p'
  if waiter and is_permit == (mutex == nil) and string.sub(waiter.owner, 1, 32) == id then
    return waiter
  end
end

-- Gives the resource to the first waiters, as far as it goes: a writer, all readers up to the
-- next writer, permits while there are any. The caller gets all of its lease; the others get a short
-- one until they have confirmed it, and are notified. Returns whether the caller got it, and whether
-- somebody goes on waiting.
local messages = {}
local function hand_over()
  local got_it = false
  while true do
    local id = redis.call('ZRANGE', queue, 0, 0)[1]
    if not id then return got_it, false end
    local waiter = next_waiter(id)
    if not waiter then
      leave_queue(id)
    elseif not is_free(waiter.mode, waiter.max) then
      return got_it, true
    else
      leave_queue(id)
      local left = waiter.lease
      if id == token then
        got_it = true
      else
        left = math.min(left, PROVISIONAL_MS)
        messages[#messages + 1] = { waiter.channel, id }
      end
      grant(waiter.mode, waiter.owner, waiter.lease, left)
      if waiter.mode == 'x' then return got_it, true end
    end
  end
end

-- Last of all, and whatever becomes of it: a message is a hint.
local function tell()
  for _, message in ipairs(messages) do
    redis.pcall('PUBLISH', message[1], message[2])
  end
end
