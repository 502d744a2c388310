-- Purpose: a dispatcher's heartbeat, with its absolute counts of watchers that changed.
-- KEYS[1] {prefix}:schema
-- ARGV[2] dispatcher, ARGV[3] ms until it is forgotten, then (id, count)…
-- Returns: {'counted', forgotten 0/1, born, refilling 0/1}
-- Invariants: I6, I7
operation('people', ALWAYS, function()
  local dispatcher = ARGV[2]
  local fresh = call('ZADD', K.dispatchers, NOW, dispatcher)
  call('ZADD', K.timers, ms(now + tonumber(ARGV[3])), 'dispatcher:' .. dispatcher)
  for i = 4, #ARGV, 2 do
    -- One that cannot be counted costs no other.
    pcall(count_watchers, ARGV[i], dispatcher, tonumber(ARGV[i + 1]))
  end
  wake()
  return { 'counted', ms(fresh), call('GET', K.born) or '', T.refill_until > now and '1' or '0' }
end)
