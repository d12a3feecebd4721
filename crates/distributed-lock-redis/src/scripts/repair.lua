-- Removes keys of another type than this library writes, where no holder depends on them.
--
-- KEYS: those of one resource, the counter last. ARGV: mode. Returns those that are left, each followed
-- by its type. A permit on several servers is a mutex.
local WANTED = { 'zset', 'zset', 'hash', 'string', 'string', 'string' }
local is_semaphore = ARGV[1] == 'p'
local left, mutex = {}, not is_semaphore and KEYS[4]

local function type_of(key)
  return redis.call('TYPE', key).ok
end

for i, key in ipairs(KEYS) do
  local found = type_of(key)
  if found ~= 'none' and found ~= WANTED[i] then
    -- Readers hold as long as their marker lasts, whatever has become of their entries.
    local held = i == 1 and mutex and type_of(mutex) == 'string' and redis.call('GET', mutex)
    local is_needed = key == mutex or (i == 1 and (is_semaphore or (held and string.find(held, '^r:%x+$'))))
    if is_needed then
      left[#left + 1] = key
      left[#left + 1] = found
    else
      redis.call('DEL', key)
    end
  end
end
return left
