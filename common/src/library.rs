//! The queue's Lua as one library of Redis functions: the shared files, then one for each operation.
//!
//! Redis compiles a library once. For a script sent with `EVALSHA`, it creates the functions again at each
//! call. The names of the library and of its functions end in a hash of the text, so that several releases can
//! be loaded at once.

use std::sync::LazyLock;

use crate::cause::CAUSES;

/// The shared files, in the order in which they depend on one another.
const SHARED: [&str; 8] = [
    include_str!("../lua/prelude.lua"),
    include_str!("../lua/lanes.lua"),
    include_str!("../lua/history.lua"),
    include_str!("../lua/ends.lua"),
    include_str!("../lua/nodes.lua"),
    include_str!("../lua/heal.lua"),
    include_str!("../lua/enter.lua"),
    include_str!("../lua/campaigns.lua"),
];
/// Digits of the hash that distinguishes releases.
const HASH_DIGITS: usize = 8;

/// An operation; its file and its function have the same name.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    text: &'static str,
}

macro_rules! operations {
    ($($constant:ident = $name:literal,)+) => {
        $(
            pub(crate) static $constant: Operation =
                Operation { name: $name, text: include_str!(concat!("../lua/", $name, ".lua")) };
        )+
        static OPERATIONS: &[&Operation] = &[$(&$constant,)+];
    };
}

operations! {
    OPEN = "open",
    SUBMIT = "submit",
    SET_ASIDE = "set_aside",
    CLAIM = "claim",
    REPORT = "report",
    PUSH = "push",
    RENEW = "renew",
    FINISH = "finish",
    GIVE_BACK = "give_back",
    LEAVE = "leave",
    CANCEL = "cancel",
    PROMOTE = "promote",
    PEOPLE = "people",
    REAP = "reap",
    SET_RULE = "set_rule",
    DRAIN = "drain",
    CONFIGURE = "configure",
    POLICY = "policy",
    SNAPSHOT = "snapshot",
    SPEND = "spend",
    LANE = "lane",
    LINE = "line",
    CHECK = "check",
    REGISTER = "register",
    NODES_VIEW = "nodes_view",
    CLEAR_NODE = "clear_node",
    SCALE = "scale",
    LIBRARIES = "libraries",
    REFILLING = "refilling",
    APPEND = "append",
    LOGS_DUE = "logs_due",
    LOGS_DONE = "logs_done",
    SHORTEN = "shorten",
    CAMPAIGN_NEW = "campaign_new",
    CAMPAIGN_ADD = "campaign_add",
    CAMPAIGN_SET = "campaign_set",
    CAMPAIGN_CANCEL = "campaign_cancel",
    CAMPAIGNS_VIEW = "campaigns_view",
    FEED = "feed",
    ARCHIVE = "archive",
}

/// The other function of append.lua.
pub(crate) static FENCE: Operation = Operation { name: "fence", text: include_str!("../lua/append.lua") };

/// The library as it is sent to Redis.
#[derive(Debug)]
pub(crate) struct Library {
    /// What it is called.
    pub(crate) name: String,
    /// Its whole text.
    pub(crate) code: String,
    /// The same text for a Redis that accepts no library.
    pub(crate) script: Script,
}

/// The same operations as one script, for a Redis that accepts no library because it is full, older than 7.0, or
/// forbids functions. The first argument of a call names the operation.
#[derive(Debug)]
pub(crate) struct Script {
    /// Its whole text.
    pub(crate) code: String,
    /// What `EVALSHA` knows it by.
    pub(crate) hash: String,
}

/// The end of the script. Redis 6.2 knows no flags for scripts: out of memory, it refuses a command that may need
/// memory if the script has not written before. So an operation that may run first deletes a key that never
/// exists, and one that may not first tries to write there, which also writes nothing. In a script, Redis 6.2 hides
/// the codes of its errors in their texts.
const SCRIPT_END: &str = "\
local unused, tried = KEYS[1] .. ':none', nil
if scripted_flags == ALWAYS then
  tried = redis.pcall('DEL', unused)
elseif scripted_flags == ADDS then
  tried = redis.pcall('ZADD', unused, 'XX', '0', '')
end
if type(tried) == 'table' then
  for _, code in ipairs({ 'OOM', 'READONLY', 'MISCONF', 'NOREPLICAS', 'MASTERDOWN' }) do
    local at = string.find(tried.err, code .. ' ', 1, true)
    if at then return { err = string.sub(tried.err, at) } end
  end
end
return scripted(KEYS, ARGV)
";

/// The library of this release.
pub(crate) static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let causes: Vec<String> = CAUSES.iter().map(|word| format!("['{word}'] = true")).collect();
    let mut body = format!("local CAUSES = {{ {} }}\n{}", causes.join(", "), SHARED.concat());
    for operation in OPERATIONS {
        let in_file = OPERATIONS.iter().copied().chain([&FENCE]).filter(|other| other.text == operation.text);
        let wanted: Vec<String> = in_file.map(|other| format!("WANTED == '{}'", other.name)).collect();
        // A file's local names do not reach the others, and a script needs one file only.
        body.extend([&format!("if not WANTED or {} then\n", wanted.join(" or ")), operation.text, "end\n"]);
    }
    let hash: String = redis::Script::new(&body).get_hash().chars().take(HASH_DIGITS).collect();
    let name = format!("fairlane_{hash}");
    let begin = format!("local SUFFIX = '_{hash}'\n");
    let code = format!("#!lua name={name}\n{begin}local WANTED\n{body}");
    let script = format!("{begin}local WANTED = table.remove(ARGV, 1)\n{body}{SCRIPT_END}");
    let script = Script { hash: redis::Script::new(&script).get_hash().to_owned(), code: script };
    Library { name, code, script }
});

impl Operation {
    /// The name of its function in Redis, such as `fairlane_submit_1a2b3c4d`.
    pub(crate) fn function(&self) -> String {
        LIBRARY.name.replacen('_', &format!("_{}_", self.name), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_its_own_function() {
        let hash = LIBRARY.name.strip_prefix("fairlane_").expect("a name of ours");
        assert_eq!(SUBMIT.function(), format!("fairlane_submit_{hash}"));
        for operation in OPERATIONS.iter().copied().chain([&FENCE]) {
            let named = [format!("operation('{}'", operation.name), format!("register('{}'", operation.name)];
            assert!(named.iter().any(|text| operation.text.contains(text)), "{}.lua", operation.name);
        }
    }
}
