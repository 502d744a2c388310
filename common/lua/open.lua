-- Purpose: makes the queue where there is none, and tells which life of Redis this is.
-- KEYS[1] {prefix}:schema
-- ARGV[2] schema major.minor, ARGV[3] random id, ARGV[4] 1 to open it for simulation
-- Returns: {'open', born} | {'schema', found}
local schema = call('GET', KEYS[1])
if schema and string.match(schema, '^(%d+)%.') ~= '1' then return { 'schema', schema } end
if not schema then
  call('SET', KEYS[1], ARGV[2])
  if ARGV[4] == '1' then call('SET', base .. 'simulation', '1') end
end
call('SETNX', base .. 'born', ARGV[3])
return { 'open', call('GET', base .. 'born') }
