//! One module per command or group of small commands.

mod builds;
pub(crate) mod bulk;
pub(crate) mod campaign;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod history;
pub(crate) mod import_binderhub;
pub(crate) mod lists;
pub(crate) mod logs;
pub(crate) mod nodes;
pub(crate) mod passed_on;
pub(crate) mod policy;
pub(crate) mod queue;
pub(crate) mod rule;
pub(crate) mod samples;
pub(crate) mod serve;
pub(crate) mod submit;
pub(crate) mod up;
pub(crate) mod watch;
pub(crate) mod workers;
