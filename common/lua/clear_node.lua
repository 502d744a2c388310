-- Purpose: an operator has a node used again, its failures forgotten.
-- KEYS[1] {prefix}:schema
-- ARGV[2] node, ARGV[3] by whom
-- Returns: {'cleared'} | {'unknown'}
local refused = gate()
if refused then return refused end
local node, by = ARGV[2], ARGV[3]
if not call('ZSCORE', base .. 'nodes', node) then return { 'unknown' } end
write_first()
node_tools().take_back(node)
call('DEL', base .. 'node-failures:' .. node)
audit(by, 'node cleared', node, '')
wake()
return { 'cleared' }
