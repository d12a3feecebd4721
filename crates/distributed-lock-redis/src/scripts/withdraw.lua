-- Undoes an attempt: its place in the queue and its hold, if it has one or the other.
--
-- ARGV: mode, owner, and for how long a request of this attempt that comes later finds that it was
-- given up; 0 if none can come.
leave_queue(token)
give_back()
if ARGV[3] ~= '0' then
  -- When memory has run out, a late request is refused for that.
  redis.pcall('SET', tombstone, '', 'PX', ARGV[3])
end
hand_over()
tell()
return 1
