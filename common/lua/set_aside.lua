-- Purpose: a worker cannot read a build that it was given: others may. It goes back at once, at no cost to
--   it, and is given to nobody for a while.
-- KEYS[1] {prefix}:schema
-- ARGV[2] id, ARGV[3] epoch, ARGV[4] worker, ARGV[5] adopted 0/1, ARGV[6] why it cannot be read
-- Returns: {'aside'} | {'stale'}
-- Invariants: I1, I4
operation('set_aside', ALWAYS, function()
  local AGAIN_MS, SHOWN_MS = 60000, 600000
  local id, epoch, worker, adopted, why = ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1', ARGV[6]
  local b = load(id)
  if not holds(b, epoch, worker) then return { 'stale' } end
  set_aside('build:' .. id, why, SHOWN_MS)
  if adopted then
    -- Its run is alive: it stays an orphan of its place.
    orphan(id, b, 'aside')
    call('ZADD', base .. 'orphans:' .. (b.place or ''), ms(now + AGAIN_MS), id)
  else
    give_back(id, b)
    -- Nothing was begun: its next run has the same number.
    b.attempt = b.attempt - 1
    requeue(id, b, 'aside', now + AGAIN_MS, {})
    place(b.lane)
  end
  wake()
  return { 'aside' }
end)
