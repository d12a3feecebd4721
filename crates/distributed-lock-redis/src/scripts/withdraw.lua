-- Undoes an attempt: its position in the queue and its hold, if it has one or the other.
--
-- ARGV: mode, owner, and for how many ms a request of this attempt that comes later finds that it was
-- withdrawn; 0 if none can come.
leave_queue(token)
give_back()
if ARGV[3] ~= '0' then leave_tombstone(ARGV[3]) end
hand_over()
tell()
return 1
