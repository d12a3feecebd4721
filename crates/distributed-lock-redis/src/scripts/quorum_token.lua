-- Steps one server's counter, or raises it to a number, if the owner has its vote.
--
-- ARGV: mode, owner, lease, number ('' to step). Returns {1, number}; {0} if somebody else has
-- brought the counter there or beyond; {2} if the owner does not have the vote.
if not is_own() then return { 2 } end
local lease, number = ARGV[3], tonumber(ARGV[4])
if not number then
  local drawn = math.max(last_drawn() + 1, micros)
  record(drawn, lease, owner)
  return { 1, int(drawn) }
end
local last, _, by = string.match(redis.call('GET', counter) or '', '^(%d+) (%d+) (%x+)$')
if not last or tonumber(last) < number then
  record(number, lease, owner)
elseif tonumber(last) > number or by ~= token then
  return { 0 }
end
return { 1, int(number) }
