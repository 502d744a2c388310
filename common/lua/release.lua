-- Purpose: the holder lets go of a build before its end.
-- KEYS[1] {prefix}:schema
-- ARGV[2] id, ARGV[3] epoch, ARGV[4] worker, ARGV[5] handover|lost, ARGV[6] reason
-- Returns: {'released', state} | {'stale'}
-- Invariants: I1, I3, I4
operation('release', ALWAYS, function()
  local id, epoch, worker, mode = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
  local b = load(id)
  if not holds(b, epoch, worker) then
    -- Said before, and the answer was lost.
    if b.state == 'queued' and b.epoch == epoch and b.last_worker == worker then return { 'released', 'queued' } end
    if b.state and is_ended(b.state) and b.epoch == epoch and b.worker == worker then return { 'released', b.state } end
    return { 'stale' }
  end
  if mode == 'handover' then
    if b.state ~= 'orphaned' then
      orphan(id, b, 'release')
      call_for(b.place or '')
    end
  else
    lose(id, b, 'release', ARGV[6])
    wake()
  end
  return { 'released', call('HGET', base .. 'build:' .. id, 'state') }
end)
