-- Steps one server's counter, or raises it to a number, if the owner has its vote.
--
-- ARGV: mode, owner, number ('' to step). Returns {1, number}; {0} if another owner has brought the
-- counter there or beyond; {2} if the owner does not have the vote; {3} if the counter is at its end.
if not is_own() then return { 2 } end
local number = ARGV[3]
if number == '' then
  local stepped = step()
  return stepped and { 1, stepped } or { 3 }
end
local last, by = read_counter()
last = last or '0'
if is_greater(last, number) or (last == number and by ~= token) then return { 0 } end
return { 1, last == number and number or write_counter(number) }
