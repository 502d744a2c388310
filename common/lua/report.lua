-- Purpose: the holder says that its run is alive, or what it waits for.
-- KEYS[1] {prefix}:schema
-- W: id, epoch, worker, running 0/1, note or empty
-- Returns: {'held': cancelling 0/1} | {'stale'}
-- Invariants: I4
operation('report', ALWAYS, function()
  local id, running, note = W.id, W.running == '1', W.note
  local b = load(id)
  if not holds(b, W.epoch, W.worker) then return { 'stale' } end
  local fields = { 'note', note }
  if running and not b.started then
    fields[#fields + 1], fields[#fields + 2] = 'started', NOW
    if b.state == 'starting' then b.state = 'running' end
  elseif running and note == (call('HGET', base .. 'build:' .. id, 'note') or '') then
    return { 'held', 'cancelling', b.cancelling and '1' or '0' }
  end
  local seq = next_seq(b)
  call('HSET', base .. 'build:' .. id, 'state', b.state, 'seq', seq, unpack(fields))
  tell(id, b.lane, b.state, seq, b.worker)
  return { 'held', 'cancelling', b.cancelling and '1' or '0' }
end)
