-- Purpose: puts the numbers of the policy in force for everybody.
-- KEYS[1] {prefix}:schema
-- ARGV[2…] (field, number)…
-- Returns: {'configured'}
operation('configure', ALWAYS, function()
  call('HSET', K.totals, unpack(ARGV, 2))
  replace_later('*')
  return { 'configured' }
end)
