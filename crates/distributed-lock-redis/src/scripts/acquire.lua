-- Asks for the resource, takes a position in its queue, keeps that position (the tick), or takes what
-- was handed over. Executed twice, however late, it has the effect of once.
--
-- ARGV: mode, owner, max, lease, position ('' only tries); of waiters also period and channel. Returns
-- 1, or '<position> <when to ask again at the latest>'. To a try it says which position is the last
-- now, for the wait that may follow. To the first waiter it says in how many ms the hold that ends next
-- runs out; else -1.
local max, lease = tonumber(ARGV[3]), tonumber(ARGV[4])
local position, period, channel = ARGV[5], ARGV[6], ARGV[7]
local waits = position ~= ''

-- A hold that SET NX has set, and no script has granted since, has no client that relies on it once
-- the same attempt runs a script. A record that is gone or cannot be read says nothing.
local function is_granted()
  local of, word = string.match(redis.call('GET', written) or '', '^%d+ (%x+) ?(%a*)$')
  return not of or (of == token and word == 'granted')
end

-- The position behind all others.
local function tail()
  local last = tonumber(redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')[2] or 0)
  if last > LAST_POSITION then
    redis.call('ZREMRANGEBYSCORE', queue, '(' .. int(LAST_POSITION), '+inf')
    return tail()
  end
  return int(math.max(last + 1, micros))
end

local function enqueue()
  local entry = { int(now), period, int(lease), mode, int(max), channel, owner }
  redis.call('HSET', waiters, token, table.concat(entry, ' '))
  redis.call('ZADD', queue, position, token)
  keep_waiters(QUEUE_MS)
  redis.call('PEXPIRE', queue, QUEUE_MS)
end

-- No client watches a hold that runs out; so the first in the queue asks again then.
local function runs_out_in()
  if redis.call('ZRANGE', queue, 0, 0)[1] ~= token then return '-1' end
  if mutex then return int(redis.call('PTTL', mutex)) end
  local ends = redis.call('ZRANGE', holders, 0, 0, 'WITHSCORES')[2]
  return ends and int(ends - now) or '-1'
end

-- Until when a reader or permit may hold at most, by the lease that it records; nil if it records none.
local function ends_by(member)
  local lease = number_up_to(LONGEST_LEASE_MS, string.match(member, '^%x+ (%d+)'))
  return lease and now + lease
end

-- Removes readers or permits that are none, and cuts back those that would last too long.
local function cut_back_members()
  local last = redis.call('ZRANGE', holders, -1, -1, 'WITHSCORES')
  local latest = last[1] and ends_by(last[1])
  if not last[1] or (latest and tonumber(last[2]) <= latest) then return false end
  local all = redis.call('ZRANGE', holders, 0, -1, 'WITHSCORES')
  redis.call('PEXPIRE', holders, LONGEST_LEASE_MS)
  for i = 1, #all, 2 do
    local latest = ends_by(all[i])
    if not latest then
      redis.call('ZREM', holders, all[i])
    elseif tonumber(all[i + 1]) > latest then
      redis.call('ZADD', holders, int(latest), all[i])
    end
  end
  settle()
  return true
end

-- An expiry further off than its lease was moved by a clock that went back, or by another program. Says
-- whether it may be free now.
local function cut_back()
  local held = mutex and redis.call('GET', mutex)
  local changed, most = false, nil
  if held and not is_marker(held) then
    local recorded, of = string.match(redis.call('GET', written) or '', '^(%d+) (%x+)')
    most = of == string.sub(held, 1, 32) and number_up_to(LONGEST_LEASE_MS, recorded)
  else
    changed = cut_back_members()
    -- Readers whose entries are gone hold until their marker ends.
    local last = held and redis.call('ZRANGE', holders, -1, -1, 'WITHSCORES')[2]
    most = held and (last and math.max(1, last - now) or lease)
  end
  local left = most and redis.call('PTTL', mutex)
  if left and left ~= -2 and (left < 0 or left > most) then
    redis.call('PEXPIRE', mutex, int(most))
  end
  return changed
end

-- The attempt was withdrawn, and this request was on its way for too long. SET NX may have come, too.
if is_withdrawn(token) then
  if give_back() then hand_over() end
  tell()
  return '0 -1'
end

if is_own() then
  if mode == 'x' and not is_granted() then
    -- Taken without a script while others waited: the first waiter gets it, see below.
    redis.call('DEL', mutex)
  else
    -- Taking what was handed over works when memory has run out: PEXPIRE comes first.
    if mode == 'x' then
      redis.call('PEXPIRE', mutex, int(lease))
      -- Or else the SET NX of a copy that comes later would, and deny it.
      record_grant(token, lease, lease)
    else
      redis.call('PEXPIRE', holders, int(lease))
      redis.call('ZADD', holders, int(now + lease), owner)
      settle()
    end
    leave_queue(token)
    return 1
  end
end

local function take()
  if waits then enqueue() end
  local granted, others_wait = hand_over()
  if not granted and not waits and not others_wait and is_free(mode, max) then
    grant(mode, owner, lease, lease)
    granted = true
  end
  return granted
end

local granted = take() or (cut_back() and take())
tell()
if granted then return 1 end
if not waits then return tail() .. ' -1' end
return position .. ' ' .. runs_out_in()
