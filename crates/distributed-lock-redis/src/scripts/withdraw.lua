-- Undoes an attempt: its place in the queue and its hold, if it has one or the other.
--
-- ARGV: mode, owner, and for how long a request of this attempt that comes later finds that it was
-- given up; 0 if none can come.
leave_queue(token)
give_back()
if ARGV[3] ~= '0' then
  redis.call('HSET', waiters, token, int(now + ARGV[3]))
  keep_waiters(ARGV[3])
end
hand_over()
tell()
return 1
