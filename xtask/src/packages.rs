//! Installing missing packages.

use std::fmt;
use std::process::Command;

use anyhow::Result;

use crate::shell;

/// Something is missing and could not be installed; shown with the one command that installs it.
#[derive(Debug)]
pub(crate) struct Missing(pub(crate) String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "something is missing. This installs it:\n\n    {}\n", self.0)
    }
}

impl std::error::Error for Missing {}

/// A Debian package, and a check whether its contents are installed.
pub(crate) struct Package {
    name: &'static str,
    is_there: fn() -> bool,
}

impl Package {
    /// A package (or several, separated by spaces) that is missing unless `is_there` returns true.
    pub(crate) const fn new(name: &'static str, is_there: fn() -> bool) -> Self {
        Self { name, is_there }
    }
}

/// The server that stores the queue.
pub(crate) const REDIS: Package =
    Package { name: "redis-server", is_there: || shell::which("redis-server").is_some() };
/// Gives processes a wrong clock.
pub(crate) const FAKETIME: Package = Package {
    name: "libfaketime",
    is_there: || {
        let mut folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        folders.any(|folder| folder.path().join("faketime").exists())
    },
};
/// Checks metrics, rules and alerts; its service is left to the tests.
pub(crate) const PROMETHEUS: Package = Package {
    name: "prometheus",
    is_there: || shell::which("promtool").is_some() && shell::which("prometheus").is_some(),
};
/// Asks a dispatcher, as the runbooks do.
pub(crate) const CURL: Package = Package { name: "curl", is_there: || shell::which("curl").is_some() };
/// Stands before dispatchers, as in `compose.yaml`.
pub(crate) const HAPROXY: Package = Package {
    name: "haproxy",
    is_there: || shell::which("haproxy").is_some() || std::path::Path::new("/usr/sbin/haproxy").exists(),
};
/// Shows the web page to the tests.
pub(crate) const CHROMIUM: Package =
    Package { name: "chromium", is_there: || std::path::Path::new("/usr/bin/chromium").exists() };
/// Drives it.
pub(crate) const CHROMIUM_DRIVER: Package =
    Package { name: "chromium-driver", is_there: || std::path::Path::new("/usr/bin/chromedriver").exists() };
/// Creates, serves and clones repositories.
pub(crate) const GIT: Package = Package { name: "git", is_there: || shell::which("git").is_some() };
/// Runs repo2docker.
pub(crate) const PYTHON: Package =
    Package { name: "python3", is_there: || shell::succeeds(Command::new("python3").arg("--version")) };
/// Makes the virtual environment for repo2docker.
pub(crate) const PYTHON_VENV: Package = Package {
    name: "python3-venv",
    is_there: || shell::succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"])),
};
/// Trusted certificates, without which nothing can be downloaded.
pub(crate) const CERTIFICATES: Package = Package {
    name: "ca-certificates",
    is_there: || std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists(),
};

/// Installs the missing packages, if it may.
///
/// # Errors
/// [`Missing`] with the one command to run, if it may not.
pub(crate) fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<_> =
        packages.iter().filter(|package| !(package.is_there)()).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let install =
        format!("apt-get update && apt-get install -y --no-install-recommends {}", missing.join(" "));
    if shell::which("apt-get").is_none() {
        let by_hand = format!("(your system's package manager) install {}", missing.join(" "));
        return Err(Missing(by_hand).into());
    }
    let is_root = shell::quiet(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root {
        return Err(Missing(format!("sudo sh -c '{install}'")).into());
    }
    println!("Installing what is missing here: {}", missing.join(", "));
    let mut command = Command::new("sh");
    command.args(["-c", &install]).env("DEBIAN_FRONTEND", "noninteractive");
    if let Err(error) = shell::run(&mut command) {
        eprintln!("{error:#}");
        return Err(Missing(install).into());
    }
    Ok(())
}
