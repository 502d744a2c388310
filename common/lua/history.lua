-- Purpose: what is kept of the past: counters of what happened. The library puts the words that a cause may be in
--   front of all files, as CAUSES. Nothing here can make an operation fail.
--   Builds on lanes.lua.

local CLASSES = { repository = true, infrastructure = true, stuck = true }

-- A cause as it is stored: one that this release does not know is `other`, so that there are only so many.
local function known_cause(cause) return CAUSES[cause] and cause or 'other' end

-- Counts an event. Each is counted at the one place where it happens, which a repeated call does not reach.
local function tally(event) redis.pcall('HINCRBY', K.counts, event, '1') end

local function tally_failure(kind, class, cause)
  tally(kind .. ':' .. (CLASSES[class] and class or 'other') .. ':' .. known_cause(cause))
end
