-- Takes back one server's vote, and notifies the waiters whose turn it may be.
--
-- ARGV: mode, owner, for how long a request of this round that comes later finds that it was given
-- up ('0' if none can come), waiter ('' if it stays), '1' to notify. A vote of a round that was not won
-- notifies no waiter: the waiters would only take it from each other. Returns 1, or 0 if the owner had
-- no vote.
local waiter, tells = ARGV[4], ARGV[5] == '1'
-- A key of another type is found before anything is written: the caller would not learn that it had a vote.
local ids = redis.call('ZRANGE', queue, 0, -1)
redis.call('HGET', waiters, token)
local had_it = give_back()
if waiter ~= '' then leave_queue(waiter) end
if ARGV[3] ~= '0' then leave_tombstone(ARGV[3]) end
if tells and (had_it or waiter ~= '') then
  for _, id in ipairs(ids) do
    local other = id ~= waiter and live_waiter(id)
    if not other then
      leave_queue(id)
    else
      local is_writer = other.mode == 'x'
      if is_writer and #messages > 0 then break end
      messages[#messages + 1] = { other.channel, id }
      if other.mode ~= 's' then break end
    end
  end
end
tell()
return had_it and 1 or 0
