-- Purpose: a worker cannot read a build that it claimed, but others may. The build goes back at once, without
--   penalty, and is not handed out for a while.
-- KEYS[1] {prefix}:schema
-- W: id, epoch, worker, adopted 0/1, why it cannot be read
-- Returns: {'aside'} | {'stale'}
-- Invariants: I1, I4
operation('set_aside', ALWAYS, function()
  local AGAIN_MS, SHOWN_MS = 60000, 600000
  local id, epoch, worker, adopted, why = W.id, W.epoch, W.worker, W.adopted == '1', W.why
  local b = load(id)
  if not holds(b, epoch, worker) then return { 'stale' } end
  set_aside('build:' .. id, why, SHOWN_MS)
  if adopted then
    -- Its run is alive: it stays an orphan of its place.
    orphan(id, b, 'aside')
    call('ZADD', base .. 'orphans:' .. (b.place or ''), ms(now + AGAIN_MS), id)
  else
    give_back(id, b)
    -- No run was started, so the next run has the same number.
    b.attempt = b.attempt - 1
    requeue(id, b, 'aside', now + AGAIN_MS, {})
    sort_lane(b.lane)
  end
  wake()
  return { 'aside' }
end)
