-- Purpose: creates the queue if there is none, and returns Redis's life id (a new one after Redis was
--   emptied). A process that knew another id tells the queue: then runs are registered before builds start.
-- KEYS[1] {prefix}:schema
-- W: schema major.minor, life (a random id), simulated 1 to open it for simulation, known (the life that the
--   caller knew) or empty, refill ms that registering takes
-- Returns: {'open': born} | {'schema': found}
-- Invariants: I3
register('open', ALWAYS, function(keys, args)
  begin(keys, args)
  local schema = call('GET', schema_key)
  if schema and string.match(schema, '^(%d+)%.') ~= '1' then return { 'schema', 'found', schema } end
  if not schema then
    call('SET', schema_key, W.schema)
    call('HSET', K.totals, 'opened', NOW)
    if W.simulated == '1' then call('SET', K.simulation, '1') end
  end
  local born = call('GET', K.born)
  -- Nothing is written to an existing queue, so a user who may only read can open it.
  if not born then
    born = W.life
    call('SET', K.born, born)
  end
  if W.known ~= '' and W.known ~= born then
    -- The window starts when the life does, whenever it is reported: a late report does not reopen it.
    local over = (tonumber(call('HGET', K.totals, 'opened')) or 0) + tonumber(W.refill)
    if over > now then
      call('HSET', K.totals, 'refill_until', ms(over))
      -- A reap at its end wakes a worker.
      call('ZADD', K.timers, ms(over), 'refill:')
    end
  end
  return { 'open', 'born', born }
end)
