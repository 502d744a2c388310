-- Purpose: sets, replaces or removes the rule of a lane or pattern.
-- KEYS[1] {prefix}:schema
-- ARGV[2] pattern, ARGV[3] rule JSON, or empty to remove it, ARGV[4] by whom
-- Returns: {'changed', existed 0/1, builds of the lane queued or live}
-- Invariants: I2, I5
operation('set_rule', ALWAYS, function()
  local pattern, text, by = ARGV[2], ARGV[3], ARGV[4]
  local existed = call('HEXISTS', K.rules, pattern)
  if text ~= '' or existed == 1 then audit(by, text == '' and 'rule removed' or 'rule set', pattern, text) end
  local rule = {}
  if text ~= '' then
    rule = cjson.decode(text)
    rule.by, rule.at = by, now
  end
  keep_rule(pattern, rule)
  rule_changed(pattern)
  wake()
  local live = call('ZCARD', base .. 'lane:' .. pattern) + call('ZCARD', base .. 'permits:' .. pattern)
  return { 'changed', ms(existed), ms(live) }
end)
