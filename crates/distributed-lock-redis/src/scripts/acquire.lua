-- Asks for the resource, takes a place in its queue, keeps that place (the tick), or takes what was
-- handed over. All of these may be repeated.
--
-- ARGV: mode, owner, max, lease, place ('' only tries; '0' takes a new place; otherwise the place
-- that the caller had); of those who wait also period and channel. Returns 1, or
-- '<place> <when to look again at the latest>': for the first of those who wait, in how many ms the
-- hold that ends next runs out; else -1.
local max, lease = tonumber(ARGV[3]), tonumber(ARGV[4])
local place, period, channel = ARGV[5], ARGV[6], ARGV[7]

-- An expiry further off than its lease was moved by a clock that went back.
local function cut_back()
  local held = mutex and redis.call('GET', mutex)
  if held and not is_marker(held) then
    local lease, of = string.match(redis.call('GET', written) or '', '^(%d+) (%x+)$')
    if of == string.sub(held, 1, 32) and redis.call('PTTL', mutex) > tonumber(lease) then
      redis.call('PEXPIRE', mutex, lease)
    end
    return
  end
  local function too_far(member, ends)
    local lease = tonumber(string.match(member, '^%x+ (%d+)'))
    return lease and tonumber(ends) > now + lease and now + lease
  end
  local last = redis.call('ZRANGE', holders, -1, -1, 'WITHSCORES')
  if not last[1] or not too_far(last[1], last[2]) then return end
  local all = redis.call('ZRANGE', holders, 0, -1, 'WITHSCORES')
  redis.call('PEXPIRE', holders, int(last[2] - now))
  for i = 1, #all, 2 do
    local ends = too_far(all[i], all[i + 1])
    if ends then redis.call('ZADD', holders, int(ends), all[i]) end
  end
  settle()
end

-- Takes a place behind the last, or returns to the one that the caller had.
local function enqueue()
  if place == '0' then
    local last = redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')[2]
    place = int(math.max((last or 0) + 1, micros))
  end
  local entry = { int(now), period, int(lease), mode, int(max), channel, owner }
  redis.call('HSET', waiters, token, table.concat(entry, ' '))
  redis.call('ZADD', queue, place, token)
  keep_waiters(QUEUE_MS)
  redis.call('PEXPIRE', queue, QUEUE_MS)
end

if is_own() then
  if mode == 'x' then
    -- Taken without a script, and somebody waits: whose turn it is, is seen below. What was handed
    -- over has been taken above.
    redis.call('DEL', mutex)
  else
    -- Taking what was handed over works when memory has run out: PEXPIRE comes first.
    redis.call('PEXPIRE', holders, int(lease))
    redis.call('ZADD', holders, int(now + lease), owner)
    settle()
    leave_queue(token)
    return 1
  end
end

-- Nobody tells of a hold that runs out; so the first in the queue looks then.
local function runs_out_in()
  if redis.call('ZRANGE', queue, 0, 0)[1] ~= token then return '-1' end
  if mutex then return int(redis.call('PTTL', mutex)) end
  local ends = redis.call('ZRANGE', holders, 0, 0, 'WITHSCORES')[2]
  return ends and int(ends - now) or '-1'
end

-- The caller has given up, and this request was on its way for too long.
if is_withdrawn(token) then return '0 -1' end

local waits = place ~= ''
if waits then enqueue() end
local granted, others_wait = hand_over()
if not granted and not waits and not others_wait and is_free(mode, max) then
  grant(mode, owner, lease, lease)
  granted = true
end
if not granted then cut_back() end
tell()
if granted then return 1 end
return place .. ' ' .. runs_out_in()
