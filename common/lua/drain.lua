-- Purpose: an operator wants a worker to take no more builds, or to take them again.
-- KEYS[1] {prefix}:schema
-- ARGV[2] worker, ARGV[3] drain 1/0, ARGV[4] by whom
-- Returns: {'draining'} | {'unknown'}
operation('drain', ALWAYS, function()
  local worker, drain, by = ARGV[2], ARGV[3] == '1', ARGV[4]
  if not call('ZSCORE', K.workers, worker) then return { 'unknown' } end
  audit(by, drain and 'drain' or 'undrain', worker, '')
  -- Its slots change hands at its next heartbeat; until then claims refuse it.
  if drain then
    call('HSET', base .. 'worker:' .. worker, 'drain', '1')
  else
    call('HDEL', base .. 'worker:' .. worker, 'drain')
  end
  return { 'draining' }
end)
