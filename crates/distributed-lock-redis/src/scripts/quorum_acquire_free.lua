-- The usual case first: a free mutex that nobody waits for. How long its lease is (`written`) need not
-- be said: no clock that jumped is made up for here.
if ARGV[1] == 'x' and redis.call('EXISTS', KEYS[3]) == 0 then
  if redis.call('SET', KEYS[4], ARGV[2], 'NX', 'PX', ARGV[4]) then return { 1 } end
end
