-- Purpose: sets the policy for everybody, replacing the previous one.
-- KEYS[1] {prefix}:schema
-- W: by whom, because (why, for the audit) or absent, yields 0/1 (whether an operator's policy stays), the policy as JSON
-- items: field, its value or empty for the default
-- Returns: {'configured'} | {'kept'}
operation('configure', ALWAYS, function()
  local by, yields, policy = W.by, W.yields == '1', W.policy
  if yields then
    local said = call('HMGET', K.totals, 'policy_by', 'policy')
    if said[1] and said[1] ~= by or said[2] == policy then return { 'kept' } end
  end
  for _, set in ipairs(items) do
    if set.value == '' then
      call('HDEL', K.totals, set.field)
    else
      call('HSET', K.totals, set.field, set.value)
    end
  end
  call('HSET', K.totals, 'policy', policy, 'policy_by', by, 'policy_at', NOW)
  audit(by, 'policy set', 'policy', policy)
  forget_totals()
  refresh_shared('slow')
  sort_later('*')
  wake()
  return { 'configured' }
end, 'field')
