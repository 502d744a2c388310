-- Purpose: a process says goodbye.
-- KEYS[1] {prefix}:schema
-- ARGV[2] worker|dispatcher, ARGV[3] its id
-- Returns: {'left'}
operation('leave', ALWAYS, function()
  if ARGV[2] == 'worker' then
    drop_worker(ARGV[3])
  else
    -- Its people are taken back in batches, by whoever reaps.
    call('ZADD', K.timers, NOW, 'dispatcher:' .. ARGV[3])
  end
  return { 'left' }
end)
