-- Purpose: the holder lets go of a build before its end.
-- KEYS[1] {prefix}:schema
-- W: id, epoch, worker, mode handover|lost, reason
-- Returns: {'given_back': state} | {'stale'}
-- Invariants: I1, I3, I4
operation('give_back', ALWAYS, function()
  local id, epoch, worker, mode = W.id, W.epoch, W.worker, W.mode
  local b = load(id)
  if not holds(b, epoch, worker) then
    -- A repeated call: the answer was lost.
    if b.state == 'queued' and b.epoch == epoch and b.last_worker == worker then return { 'given_back', 'state', 'queued' } end
    if b.state and is_ended(b.state) and b.epoch == epoch and b.worker == worker then return { 'given_back', 'state', b.state } end
    return { 'stale' }
  end
  if mode == 'handover' then
    if b.state ~= 'orphaned' then
      orphan(id, b, 'release')
      call_for(b.place or '')
    end
  else
    lose(id, b, 'release', W.reason)
    wake()
  end
  return { 'given_back', 'state', call('HGET', base .. 'build:' .. id, 'state') }
end)
