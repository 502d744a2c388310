-- Purpose: starts, pauses or resumes a campaign, or changes its pacing.
-- KEYS[1] {prefix}:schema
-- W: name, state running|paused or empty, by whom, because (why, for the audit) or absent, pacing (what is set, as
--   JSON for the audit) or empty
-- items: field of the pacing, its value or empty for the default
-- Returns: {'changed': state, taken_back (builds taken out of line)} | {'unknown'} | {'ended': state}
operation('campaign_set', ALWAYS, function()
  local name, key, to, by = W.name, campaigns.key(W.name), W.state, W.by
  local state = call('HGET', key, 'state')
  if not state then return { 'unknown' } end
  if state == 'ended' or state == 'cancelled' then return { 'ended', 'state', state } end
  for _, set in ipairs(items) do
    if set.value == '' then call('HDEL', key, set.field) else call('HSET', key, set.field, set.value) end
  end
  if items[1] then audit(by, 'campaign pacing set', name, W.pacing) end
  local taken = 0
  if to ~= '' and to ~= state then
    audit(by, state == 'loading' and 'campaign started' or to == 'paused' and 'campaign paused' or 'campaign resumed', name, to)
    call('HSET', key, 'state', to, 'set_by', by, 'set_at', NOW, 'why', '')
    if state == 'loading' then call('HSET', key, 'started', NOW) end
    if to == 'paused' then taken = campaigns.take_back(name, by, 'its campaign ' .. name .. ' was paused') end
    state = to
    campaigns.close_if_done(name)
  end
  wake()
  return { 'changed', 'state', state, 'taken_back', ms(taken) }
end, 'field')
