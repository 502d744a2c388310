-- Purpose: whether runs are being registered because Redis was emptied. Reads only.
-- KEYS[1] {prefix}:schema
-- W: nothing
-- Returns: {'refilling': left (ms until it is over; 0 if it is over)}
operation('refilling', READS, function() return { 'refilling', 'left', ms(max(0, T.refill_until - now)) } end)
