-- Steps one server's counter, or raises it to a number, if the owner has its vote.
--
-- ARGV: mode, owner, number ('' to step). Returns {1, number}; {0} if somebody else has brought the
-- counter there or beyond; {2} if the owner does not have the vote.
if not is_own() then return { 2 } end
local number = tonumber(ARGV[3])
if not number then return { 1, step() } end
local last, by = last_drawn()
if last > number or (last == number and by ~= token) then return { 0 } end
return { 1, last == number and int(number) or record(number) }
