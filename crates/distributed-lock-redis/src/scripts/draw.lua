-- Draws the next fencing token of a lock that is held.
--
-- ARGV: mode, owner. Returns the token; 0 if the lock is not the owner's; nothing if the counter is at
-- its end.
if not is_own() then return '0' end
return step() or ''
