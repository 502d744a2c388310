-- Purpose: puts a policy in force for everybody, replacing the one before.
-- KEYS[1] {prefix}:schema
-- ARGV[2] by whom, ARGV[3] whether an operator's policy stays 0/1, ARGV[4] the policy as JSON, ARGV[5…] (field, value
--   or empty for the default)…
-- Returns: {'configured'} | {'kept'}
operation('configure', ALWAYS, function()
  local by, yields = ARGV[2], ARGV[3] == '1'
  if yields then
    local said = call('HMGET', K.totals, 'policy_by', 'policy')
    if said[1] and said[1] ~= by or said[2] == ARGV[4] then return { 'kept' } end
  end
  for i = 5, #ARGV, 2 do
    if ARGV[i + 1] == '' then
      call('HDEL', K.totals, ARGV[i])
    else
      call('HSET', K.totals, ARGV[i], ARGV[i + 1])
    end
  end
  call('HSET', K.totals, 'policy', ARGV[4], 'policy_by', by, 'policy_at', NOW)
  audit(by, 'policy set', 'policy', ARGV[4])
  forget_totals()
  refresh_shared('slow')
  replace_later('*')
  wake()
  return { 'configured' }
end)
