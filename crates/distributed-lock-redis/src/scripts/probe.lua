-- Which of the commands that the other scripts use is this user not allowed?
--
-- KEYS: a key of ours that nobody uses. ARGV: a channel of ours that nobody uses.
local key, channel = KEYS[1], ARGV[1]
local missing = {}

local function try(...)
  local reply = redis.pcall(...)
  -- Only the text says it: up to version 7.2 the code is that of any error.
  local refused = type(reply) == 'table' and reply.err
  if refused and (string.find(refused, 'NOPERM') or string.find(refused, 'user executing')) then
    missing[#missing + 1] = string.lower((...))
  end
end

try('TIME')
try('EXISTS', key)
try('GET', key)
try('SET', key, '', 'PX', 1000)
try('PEXPIRE', key, 1000)
try('PTTL', key)
try('DEL', key)
try('ZADD', key, 1, 'probe')
try('PEXPIRE', key, 1000)
try('ZSCORE', key, 'probe')
try('ZCOUNT', key, 1, 1)
try('ZRANGE', key, 0, 0)
try('ZREMRANGEBYSCORE', key, 0, 0)
try('ZREM', key, 'probe')
try('DEL', key)
try('HSET', key, 'probe', '')
try('PEXPIRE', key, 1000)
try('HGET', key, 'probe')
try('HLEN', key)
try('HGETALL', key)
try('TYPE', key)
try('HDEL', key, 'probe')
try('DEL', key)
try('PUBSUB', 'NUMSUB', channel)
try('PUBLISH', channel, '')
return missing
