-- Draws the next fencing token of a lock that is held.
--
-- ARGV: mode, owner. Returns the token, or 0 if the lock is not the owner's.
if not is_own() then return '0' end
return step()
