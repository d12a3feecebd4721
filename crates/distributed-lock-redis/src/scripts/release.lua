-- Gives the resource back, and to the next waiter; touches no other hold.
--
-- ARGV: mode, owner, and for how many ms a request of the same attempt that comes later finds that it
-- was withdrawn; 0 if none can come. Returns 1; 0 if the owner has no hold; 3 if others hold, wait or
-- were handed it. The first write is one that is not refused when memory has run out.
local had_it = is_given_back or give_back()
if is_given_back then settle() end
if ARGV[3] ~= '0' then
  leave_queue(token)
  leave_tombstone(ARGV[3])
elseif not had_it then
  return 0
end
local _, others_wait = hand_over()
tell()
if not had_it then return 0 end
return (is_given_back or others_wait or #messages > 0) and 3 or 1
