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
  if not b.cancelling then audit(by, 'cancel', id, reason) end
  local done = stop(id, b, by, reason)
  if done == 'cancelled' then wake() end
  return { done }
end)
