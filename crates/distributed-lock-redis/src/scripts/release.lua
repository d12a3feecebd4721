-- Gives the resource back, and to the next who waits for it; touches nobody else's hold.
--
-- ARGV: mode, owner. Returns 1; 0 if the owner has no hold; 3 if others hold, wait or were handed it.
-- The first write is one that is not refused when memory has run out.
if is_given_back then
  settle()
elseif not give_back() then
  return 0
end
local _, others_wait = hand_over()
tell()
return (is_given_back or others_wait or #messages > 0) and 3 or 1
