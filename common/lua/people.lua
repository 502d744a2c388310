-- Purpose: a dispatcher's heartbeat, with its absolute counts of watchers that changed.
-- KEYS[1] {prefix}:schema
-- W: dispatcher, ttl ms until it is forgotten
-- items: id of a build, count
-- Returns: {'counted': forgotten 0/1, born, refilling 0/1}
-- Invariants: I6, I7
operation('people', ALWAYS, function()
  local dispatcher = W.dispatcher
  local fresh = call('ZADD', K.dispatchers, NOW, dispatcher)
  if fresh == 1 then call('HSET', K.libraries, 'dispatcher:' .. dispatcher, LIBRARY) end
  call('ZADD', K.timers, ms(now + tonumber(W.ttl)), 'dispatcher:' .. dispatcher)
  for _, watched in ipairs(items) do
    -- A count that fails does not affect the others.
    pcall(count_watchers, watched.id, dispatcher, tonumber(watched.count))
  end
  wake()
  return { 'counted', 'forgotten', ms(fresh), 'born', call('GET', K.born) or '',
    'refilling', T.refill_until > now and '1' or '0' }
end, 'id')
