-- Purpose: begins a campaign. Its items come with campaign_add; it starts when it is set to running (campaign_set).
-- KEYS[1] {prefix}:schema
-- W: name, request (a random id, the same in a repeated call), by whom, because (why, for the audit) or absent,
--   launches (all expected ones, '' for the sum of the items'), present (launches whose image is there already),
--   standing 1 if it goes on until it is cancelled
-- items: field of the pacing, its value
-- Returns: {'made'} | {'exists': state} | {'full': max}
operation('campaign_new', ADDS, function()
  local name, key = W.name, campaigns.key(W.name)
  local v = call('HMGET', key, 'state', 'request')
  if v[1] then return v[2] == W.request and { 'made' } or { 'exists', 'state', v[1] } end
  if call('ZCARD', K['campaigns:open']) >= campaigns.OPEN_MAX then return { 'full', 'max', ms(campaigns.OPEN_MAX) } end
  -- Those that ended long ago have expired.
  for _, old in ipairs(call('ZRANGE', K.campaigns, '0', '99')) do
    if call('EXISTS', campaigns.key(old)) == 0 then call('ZREM', K.campaigns, old) end
  end
  call('HSET', key, 'state', 'loading', 'request', W.request, 'by', W.by, 'created', NOW, 'launches', W.launches,
    'covered', W.present, 'present_before', W.present, 'items', '0', 'left_ms', '0')
  if W.standing == '1' then call('HSET', key, 'standing', '1') end
  for _, set in ipairs(items) do
    if set.value ~= '' then call('HSET', key, set.field, set.value) end
  end
  call('ZADD', K.campaigns, NOW, name)
  call('ZADD', K['campaigns:open'], NOW, name)
  campaigns.count()
  audit(W.by, 'campaign created', name, '')
  return { 'made' }
end, 'field')
