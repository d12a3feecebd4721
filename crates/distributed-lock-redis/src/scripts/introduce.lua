-- What a server knows of its group, after it was told more.
--
-- KEYS: the members. ARGV: run ids, those of members from the beginning as '+<id>', those that are
-- new as '-<id>'. Returns run ids and since when they are known in ms, -1 for the beginning.
local members = KEYS[1]
local KEPT_MS = '31536000000'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, word in ipairs(ARGV) do
  local sign, id = string.sub(word, 1, 1), string.sub(word, 2)
  if sign == '+' then
    redis.call('HSET', members, id, '-1')
  else
    redis.call('HSETNX', members, id, string.format('%.0f', now))
  end
end
redis.call('PEXPIRE', members, KEPT_MS)
local all = redis.call('HGETALL', members)
for i = 2, #all, 2 do
  if all[i] ~= '-1' then all[i] = string.format('%.0f', math.max(0, now - all[i])) end
end
return all
