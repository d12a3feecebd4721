-- Damage that keeps the resource from its next owner: positions behind all others, members that are none,
-- and holds that would last too long.

-- The position behind all others.
local function tail()
  local last = tonumber(redis.call('ZRANGE', queue, -1, -1, 'WITHSCORES')[2] or 0)
  if last > LAST_POSITION then
    redis.call('ZREMRANGEBYSCORE', queue, '(' .. int(LAST_POSITION), '+inf')
    return tail()
  end
  return int(math.max(last + 1, micros))
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

-- An expiry further off than its lease was moved by a clock that went back, or by another program. A
-- marker of readers without entries gets the caller's lease. Returns whether the resource may be free now.
local function cut_back(lease)
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
