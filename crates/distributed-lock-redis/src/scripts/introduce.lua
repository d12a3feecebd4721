-- Adds to what a server knows of its group.
--
-- KEYS: the members. ARGV: run ids, those of members from the beginning as '+<id>', those that are
-- new as '-<id>'. Returns run ids and since when they are known in ms, -1 for the beginning.
--
-- Damage never makes a server known for longer than it is: a value that is no time of the last year counts
-- from now on. A key of another type is replaced by one that names a stranger, so that a group whose
-- servers all have lost it is not taken for a new one, which would count at once.
local members = KEYS[1]
local KEPT_MS = 31536000000
local STRANGER = 'unknown'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function int(number)
  return string.format('%.0f', number)
end

-- Since when a run id is known; nil if this is no time at which it can have been noted.
local function known_since(text)
  local since = string.match(text, '^%d+$') and tonumber(text)
  return since and since <= now and since > now - KEPT_MS and since or nil
end

local found = redis.call('TYPE', members).ok
if found ~= 'none' and found ~= 'hash' then
  redis.call('DEL', members)
  redis.call('HSET', members, STRANGER, int(now))
end
for _, word in ipairs(ARGV) do
  local sign, id = string.sub(word, 1, 1), string.sub(word, 2)
  if sign == '+' then
    redis.call('HSET', members, id, '-1')
  else
    redis.call('HSETNX', members, id, int(now))
  end
end
redis.call('PEXPIRE', members, int(KEPT_MS))
local all = redis.call('HGETALL', members)
for i = 2, #all, 2 do
  if all[i] ~= '-1' then
    local since = known_since(all[i])
    if not since then
      redis.call('HSET', members, all[i - 1], int(now))
    end
    all[i] = int(now - (since or now))
  end
end
return all
