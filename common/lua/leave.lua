-- Purpose: a process says goodbye.
-- KEYS[1] {prefix}:schema
-- W: kind worker|dispatcher, its id
-- Returns: {'left'}
operation('leave', ALWAYS, function()
  if W.kind == 'worker' then
    drop_worker(W.id)
  else
    -- Later reaps subtract its people, in batches.
    call('ZADD', K.timers, NOW, 'dispatcher:' .. W.id)
  end
  return { 'left' }
end)
