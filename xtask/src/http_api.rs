//! Sends valid and invalid requests, generated from the API's document, to a real dispatcher: every response must
//! be one that the document lists.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::demo::fairlane::Fairlane;
use crate::shell::{cargo, run};
use crate::venv;

const REQUIREMENTS: &[&str] = &["schemathesis==4.32.5"];
/// Most requests for each operation and kind.
const EXAMPLES: &str = "200";
/// With a token, so that requests without one must be refused.
const TOKEN: &str = "a-token-of-these-tests-alone";

/// Generates the requests, sends them and checks the responses.
pub(crate) fn test(root: &Path) -> Result<()> {
    let python = match venv::python(root, "http-api-venv", REQUIREMENTS) {
        Ok(python) => python,
        Err(error) => {
            println!("\nSKIPPED: requests generated from the OpenAPI document. {error:#}");
            return Ok(());
        }
    };
    // With all tests, as they are run later: their dependencies have other features, and would be compiled again.
    run(&mut cargo(root, &["build", "--workspace", "--tests"]))?;
    let folder = root.join("target/http-api");
    std::fs::create_dir_all(&folder)?;
    let settings = [("FAIRLANE_TOKEN", TOKEN)];
    let fairlane = Fairlane::start_with(root, &folder, 2, "/bin/echo {repo}", &settings)?;
    let mut command = Command::new(python.with_file_name("st"));
    command.arg("--config-file").arg(root.join("xtask/src/http_api.toml"));
    command.args(["run", &format!("{}/openapi.json", fairlane.url())]);
    command.args(["--header", &format!("Authorization: Bearer {TOKEN}")]);
    // The same requests each time, so that failures can be reproduced.
    command.args(["--seed", "1", "--max-examples", EXAMPLES]);
    // The patterns in the document reject most of what is generated.
    command.args(["--suppress-health-check", "filter_too_much"]);
    // A stream has no end.
    command.args(["--exclude-operation-id", "follow_build", "--request-timeout", "10", "--no-color"]);
    run(command.current_dir(&folder))
}
