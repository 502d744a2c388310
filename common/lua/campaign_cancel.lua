-- Purpose: cancels a campaign: takes back what has not started. Running builds finish, unless they are to be
--   cancelled, too.
-- KEYS[1] {prefix}:schema
-- W: name, running 0/1 (whether running builds are cancelled), by whom, because (why, for the audit) or absent
-- Returns: {'cancelled': dropped (items that will not be built), stopping (builds), left (builds that finish)}
--   | {'unknown'} | {'ended': state}
operation('campaign_cancel', ALWAYS, function()
  local name, key, by = W.name, campaigns.key(W.name), W.by
  local state = call('HGET', key, 'state')
  if not state then return { 'unknown' } end
  if call('ZSCORE', K['campaigns:open'], name) == false then return { 'ended', 'state', state } end
  if state ~= 'cancelled' then
    audit(by, 'campaign cancelled', name, W.running == '1' and 'with its running builds' or '')
    call('HSET', key, 'state', 'cancelled', 'set_by', by, 'set_at', NOW, 'why', '')
  end
  local reason = 'its campaign ' .. name .. ' was cancelled'
  campaigns.take_back(name, by, reason)
  local dropped, stopping = call('ZCARD', key .. ':todo') + call('HLEN', key .. ':joined'), 0
  if W.running == '1' then
    for _, id in ipairs(call('HVALS', key .. ':open')) do
      local b = load(id)
      if is_whole(b) and not is_ended(b.state) and b.priority == 'background' and b.people == 0 then
        stop(id, b, by, reason)
        stopping = stopping + 1
      end
    end
  end
  local left = call('HLEN', key .. ':open') - stopping
  campaigns.clear(name)
  wake()
  return { 'cancelled', 'dropped', ms(dropped), 'stopping', ms(stopping), 'left', ms(left) }
end)
