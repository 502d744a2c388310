-- Purpose: ends a build for everybody who waits for it.
-- KEYS[1] {prefix}:schema
-- W: id, by whom, reason
-- Returns: {'cancelled'} | {'stopping'} | {'ended': state} | {'unknown'}
-- Invariants: I1
operation('cancel', ALWAYS, function()
  local id, by, reason = W.id, W.by, W.reason
  local b = load(id)
  if not b.state then return { 'unknown' } end
  if is_ended(b.state) then return { 'ended', 'state', b.state } end
  if b.cancelling then return { 'stopping' } end
  audit(by, 'cancel', id, reason)
  if b.state == 'queued' then
    leave_line(id, b)
    end_build(id, b, 'cancelled', { 'reason', reason })
    sort_lane(b.lane)
    wake()
    return { 'cancelled' }
  end
  -- The permit is held until the run is gone; a request in the meantime gets a new build.
  local image = base .. 'image:' .. b.image
  if call('GET', image) == id then call('DEL', image) end
  local seq = next_seq(b)
  call('HSET', base .. 'build:' .. id, 'cancelling', by, 'reason', reason, 'seq', seq)
  tell(id, b.lane, b.state, seq, b.worker, nil, reason)
  call('PUBLISH', K.orphans, 'cancel ' .. (b.worker or '') .. ' ' .. id)
  return { 'stopping' }
end)
