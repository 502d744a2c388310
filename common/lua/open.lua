-- Purpose: makes the queue where there is none, and tells which life of Redis this is. Whoever knew
--   another life knows that Redis was emptied: what still runs is to be registered before builds begin.
-- KEYS[1] {prefix}:schema
-- ARGV[2] schema major.minor, ARGV[3] random id, ARGV[4] 1 to open it for simulation, ARGV[5] the life
--   that the caller knew or empty, ARGV[6] ms that registering takes
-- Returns: {'open', born} | {'schema', found}
-- Invariants: I3
register('open', ALWAYS, function(keys, args)
  begin(keys, args)
  local schema = call('GET', KEYS[1])
  if schema and string.match(schema, '^(%d+)%.') ~= '1' then return { 'schema', schema } end
  if not schema then
    call('SET', KEYS[1], ARGV[2])
    call('HSET', K.totals, 'opened', NOW)
    if ARGV[4] == '1' then call('SET', K.simulation, '1') end
  end
  call('SETNX', K.born, ARGV[3])
  local born = call('GET', K.born)
  if ARGV[5] ~= '' and ARGV[5] ~= born then
    -- The window begins with the life, whoever says so and when: one who comes late reopens nothing.
    local over = (tonumber(call('HGET', K.totals, 'opened')) or 0) + tonumber(ARGV[6])
    if over > now then
      call('HSET', K.totals, 'refill_until', ms(over))
      -- Somebody reaps when it is over, and wakes a worker.
      call('ZADD', K.timers, ms(over), 'refill:')
    end
  end
  return { 'open', born }
end)
