-- Purpose: an operator makes a background build interactive, as if somebody who waits had asked for it.
-- KEYS[1] {prefix}:schema
-- W: id, by whom, because (why, for the audit) or absent
-- Returns: {'promoted'} | {'interactive'} | {'ended': state} | {'unknown'}
-- Invariants: I5
operation('promote', ALWAYS, function()
  local id, by = W.id, W.by
  local b = load(id)
  if not is_whole(b) then return { 'unknown' } end
  if is_ended(b.state) then return { 'ended', 'state', b.state } end
  if b.priority ~= 'background' then return { 'interactive' } end
  audit(by, 'promote', id, b.lane)
  make_interactive(id, b)
  if b.state == 'queued' then rescore(id, b) end
  wake()
  return { 'promoted' }
end)
