-- The state of one resource, and the steps that more than one script makes.
--
-- A lock is free if its mutex key is absent. While a writer holds, that key is '<token>[ <label>]';
-- while readers hold, it is the marker 'r:<token>' with the expiry of the last of them, and each
-- reader is a member of `holders`. A semaphore has no mutex key: its permits are members of
-- `holders`. A member is '<token> <lease>[ <label>]', its score the end of its lease.
--
-- Those who wait are members of `queue`, in the order of their places; `waiters` says of each
-- '<tick> <period> <lease> <mode> <max> <channel> <owner>'. Of an attempt that was withdrawn while a
-- request of it was on its way, `waiters` keeps a tombstone: until when. So if `waiters` is absent,
-- nobody waits and no request is stale. All times are the server's, in ms.
--
-- A script is not rolled back when it fails. So it checks first; a script that must also work when
-- memory has run out begins to write with a command that is never refused; one that must not
-- begins with SET; what makes an owner is written last.
local holders, queue, waiters, counter, mutex = unpack(KEYS)
local mode, owner = ARGV[1], ARGV[2]
local token = string.sub(owner, 1, 32)

local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

-- How long the counter outlives its last use, and the queue its last tick.
local COUNTER_MS = 3600000
local QUEUE_MS = 10000
-- A lock that was handed over and is not taken passes on after this.
local PROVISIONAL_MS = 3000

local function int(number)
  return string.format('%.0f', number)
end

local function is_marker(value)
  return #value == 34 and string.find(value, '^r:%x+$') ~= nil
end

-- Remembers the last fencing token, and how long the lease of a writer is: a key's expiry that is
-- further off was moved by the clock.
local function record(drawn, lease, owner)
  local value = int(drawn) .. ' ' .. lease .. ' ' .. string.sub(owner, 1, 32)
  local ahead = math.max(0, math.floor(drawn / 1000) - now)
  redis.call('SET', counter, value, 'PX', int(COUNTER_MS + ahead))
end

local function last_drawn()
  return tonumber(string.match(redis.call('GET', counter) or '0', '^%d+'))
end

-- The next fencing token: greater than the last, and than any that a lost data set gave out.
local function draw(lease)
  local drawn = math.max(last_drawn() + 1, micros)
  record(drawn, lease, owner)
  return drawn
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
  return not held or (mode == 's' and is_marker(held))
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

-- Makes an owner for `left` ms. What makes it one is written last.
local function grant(mode, owner, left)
  if mode == 'x' then
    redis.call('SET', mutex, owner, 'PX', int(left))
    return
  end
  local is_first = mode == 's' and redis.call('EXISTS', mutex) == 0
  if is_first then
    -- Readers whose marker is gone have lost the lock: a writer may have had it since.
    redis.call('DEL', holders)
    redis.call('SET', mutex, 'r:' .. string.sub(owner, 1, 32), 'PX', int(left))
  end
  redis.call('ZADD', holders, int(now + left), owner)
  settle()
end

-- Ends the caller's hold; false if it has none.
local function give_back()
  if mode == 'x' then
    if redis.call('GET', mutex) ~= owner then return false end
    redis.call('DEL', mutex)
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
-- next writer, permits while there are any. The caller gets all of its lease and its fencing token,
-- which is returned; the others get a short lease until they have confirmed it, and are told.
-- The second result says whether somebody goes on waiting.
local messages = {}
local function hand_over()
  local drawn = nil
  while true do
    local id = redis.call('ZRANGE', queue, 0, 0)[1]
    if not id then return drawn, false end
    local waiter = live_waiter(id)
    if not waiter then
      leave_queue(id)
    elseif not is_free(waiter.mode, waiter.max) then
      return drawn, true
    else
      leave_queue(id)
      if id == token then
        drawn = draw(waiter.lease)
        grant(waiter.mode, waiter.owner, waiter.lease)
      else
        if waiter.mode == 'x' then record(last_drawn(), waiter.lease, waiter.owner) end
        grant(waiter.mode, waiter.owner, math.min(waiter.lease, PROVISIONAL_MS))
        messages[#messages + 1] = { waiter.channel, id }
      end
      if waiter.mode == 'x' then return drawn, true end
    end
  end
end

-- Last of all, and whatever becomes of it: a message is a hint.
local function tell()
  for _, message in ipairs(messages) do
    redis.pcall('PUBLISH', message[1], message[2])
  end
end
