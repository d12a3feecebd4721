-- Gives the resource back, and to the next who waits for it; touches nobody else's hold.
--
-- ARGV: mode, owner. Returns 1, or 0 if the owner has no hold. The first write is one that is not
-- refused when memory has run out.
if is_given_back then
  settle()
elseif not give_back() then
  return 0
end
hand_over()
tell()
return 1
