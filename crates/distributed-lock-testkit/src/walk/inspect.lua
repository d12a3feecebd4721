-- Everything that the server has: for each key its name, its rest in ms and what is in it.
local all = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  local content = {}
  if kind == 'string' then
    content = { redis.call('GET', key) }
  elseif kind == 'zset' then
    content = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'hash' then
    content = redis.call('HGETALL', key)
  end
  all[#all + 1] = { key, redis.call('PTTL', key), content }
end
return all
