//! The queue's Lua as one library of Redis functions: the shared files, then one for each operation.
//!
//! Redis compiles a library once. For a script sent with `EVALSHA`, it creates every function again at each
//! call, which took a tenth of all the time that Redis spent on us. The names of the library and of its
//! functions end in a hash of the text, so that several releases can be loaded at once.

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
}

/// The library of this release.
pub(crate) static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let causes: Vec<String> = CAUSES.iter().map(|word| format!("['{word}'] = true")).collect();
    let mut body = format!("local CAUSES = {{ {} }}\n{}", causes.join(", "), SHARED.concat());
    for operation in OPERATIONS {
        // A file's local names do not reach the others.
        body.extend(["do\n", operation.text, "end\n"]);
    }
    let hash: String = redis::Script::new(&body).get_hash().chars().take(HASH_DIGITS).collect();
    let name = format!("fairlane_{hash}");
    let code = format!("#!lua name={name}\nlocal SUFFIX = '_{hash}'\n{body}");
    Library { name, code }
});

/// The same operations as one script, for a Redis that accepts no library because it is full or has no
/// functions. The first argument of a call names the operation.
#[derive(Debug)]
pub(crate) struct Script {
    flags: &'static str,
    /// Its whole text.
    pub(crate) code: String,
    /// What `EVALSHA` knows it by.
    pub(crate) hash: String,
}

/// One for each kind of operation: a script's first line declares what it may do.
static SCRIPTS: LazyLock<[Script; 3]> = LazyLock::new(|| {
    let body = LIBRARY.code.split_once('\n').map_or("", |(_, body)| body);
    ["", " flags=allow-oom", " flags=no-writes"].map(|flags| {
        let code = format!(
            "#!lua{flags}\nlocal called_keys, called_words = KEYS, ARGV\n{body}\
             local words = {{}}\n\
             for i = 2, #called_words do words[i - 1] = called_words[i] end\n\
             return SCRIPTED[called_words[1]](called_keys, words)\n"
        );
        let hash = redis::Script::new(&code).get_hash().to_owned();
        Script { flags, code, hash }
    })
});

impl Operation {
    /// The script with this operation's flags.
    pub(crate) fn script(&self) -> &'static Script {
        let registered = |flags: &str| self.text.contains(&format!("'{}', {flags}", self.name));
        let flags = match () {
            () if registered("ALWAYS") => " flags=allow-oom",
            () if registered("READS") => " flags=no-writes",
            () => "",
        };
        let of_kind = SCRIPTS.iter().find(|script| script.flags == flags);
        of_kind.unwrap_or(&SCRIPTS[0])
    }

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
