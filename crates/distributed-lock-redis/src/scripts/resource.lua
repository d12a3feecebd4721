-- The state of one resource, and the steps that more than one script makes.
--
-- A lock is free if its mutex key is absent. While a writer holds, that key is '<token>[ <label>]',
-- and `written` says how long its lease is, '<lease> <token>'; while readers hold, it is the marker
-- 'r:<token>' with the expiry of the last of them, and each reader is a member of `holders`. A
-- semaphore has no mutex key: its permits are members of `holders`. A member is
-- '<token> <lease>[ <label>]', its score the end of its lease.
--
-- Those who wait are members of `queue`, in the order of their places; `waiters` says of each
-- '<tick> <period> <lease> <mode> <max> <channel> <owner>'. Of an attempt that was withdrawn while a
-- request of it was on its way, `waiters` keeps a tombstone: until when. So if `waiters` is absent,
-- nobody waits and no request is stale. All times are the server's, in ms.
--
-- A free lock that nobody waits for is taken without a script, by SET NX of the mutex key and of
-- `written`, and a look at `waiters`: see free.rs.
--
-- A script is not rolled back when it fails. So it checks first; a script that must also work when
-- memory has run out begins to write with a command that is never refused; one that must not
-- begins with SET; what makes an owner is written last.
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

local function int(number)
  return string.format('%.0f', number)
end

local function is_marker(value)
  return #value == 34 and string.find(value, '^r:%x+$') ~= nil
end

-- A withdrawn attempt whose request comes all the same finds until when it counts as withdrawn.
local function is_withdrawn(id)
  local entry = redis.call('HGET', waiters, id)
  return entry and not string.find(entry, ' ') and tonumber(entry) > now
end

-- Lets the keys that stand for all readers or permits end with the last of them.
local function settle()
  redis.call('ZREMRANGEBYSCORE', holders, '-inf', int(now))
  local last = redis.call('ZRANGE', holders, -1, -1, 'WITHSCORES')
  if last[2] then
    local left = int(last[2] - now)
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

-- Makes an owner of a lease of which it gets `left` ms for now. What makes it one is written last.
local function grant(mode, owner, lease, left)
  left = int(left)
  if mode == 'x' then
    -- It must outlast a lease that begins when the hand-over is confirmed.
    local outlasts = lease + PROVISIONAL_MS
    redis.call('SET', written, int(lease) .. ' ' .. string.sub(owner, 1, 32), 'PX', int(outlasts))
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

-- Tombstones last longer than the ticks of those who wait.
local function keep_waiters(ms)
  if redis.call('PTTL', waiters) < tonumber(ms) then redis.call('PEXPIRE', waiters, ms) end
end

local function leave_queue(id)
  redis.call('ZREM', queue, id)
  redis.call('HDEL', waiters, id)
end

-- A waiter is live if it has ticked within three periods and somebody listens on its channel.
-- Who listens to every channel is not counted by NUMSUB, but is by the reply of PUBLISH.
local function live_waiter(id)
  local tick, rest = string.match(redis.call('HGET', waiters, id) or '', '^(%d+) (.+)$')
  if not tick then return nil end
  local period, lease, mode, max, channel, owner =
    string.match(rest, '^(%d+) (%d+) (%a) (%d+) (%S+) (.+)$')
  if tonumber(tick) > now then
    -- The clock went back: from here on the tick ages as it should.
    redis.call('HSET', waiters, id, int(now) .. ' ' .. rest)
  elseif now - tick > 3 * period then
    return nil
  end
  local listening = redis.pcall('PUBSUB', 'NUMSUB', channel)
  if not listening.err and listening[2] == 0 then return nil end
  return { mode = mode, max = tonumber(max), lease = tonumber(lease), channel = channel, owner = owner }
end

-- Gives the resource to those whose turn it is, as far as it goes: a writer, all readers up to the
-- next writer, permits while there are any. The caller gets all of its lease; the others get a short
-- one until they have confirmed it, and are told. Returns whether the caller got it, and whether
-- somebody goes on waiting.
local messages = {}
local function hand_over()
  local got_it = false
  while true do
    local id = redis.call('ZRANGE', queue, 0, 0)[1]
    if not id then return got_it, false end
    local waiter = live_waiter(id)
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
