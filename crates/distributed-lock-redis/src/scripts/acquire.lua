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

local granted = take() or (cut_back(lease) and take())
tell()
if granted then return 1 end
if not waits then return tail() .. ' -1' end
return position .. ' ' .. runs_out_in()
