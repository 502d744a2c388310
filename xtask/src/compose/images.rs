//! The images that compose.yaml and Dockerfile name: pulled, or made here where no registry can be reached.
//!
//! What is made here gets a name of its own: under the real name, later builds would take it for the real image.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::engine::{ask, docker, wait};
use crate::packages::{self, Package};
use crate::shell::{cargo, quiet, run, which};

/// Prefix of the names of images that were made here.
const STAND_IN: &str = "fairlane-stand-in/";
/// Marks what is built, so that stages without a name and earlier stand-ins can be found and removed.
const LABEL: &str = "org.fairlane.trial=compose";
/// The first pull shows whether a registry can be reached at all; it is the smallest image.
const FIRST_PULL_LIMIT: Duration = Duration::from_mins(1);
const PULL_LIMIT: Duration = Duration::from_mins(15);

const DEBIAN: &str = "debian:bookworm-slim";
const DEBOOTSTRAP: Package = Package::new("debootstrap", || which("debootstrap").is_some());
/// Debian from its packages. Certificates that this machine trusts are trusted there, too, because packages may come
/// through a proxy with one of its own.
const DEBIAN_SCRIPT: &str = r#"
    set -eu
    rm -rf "$1"; mkdir "$1"
    debootstrap --variant=minbase --include=ca-certificates bookworm "$1" >&2
    if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
        cp /etc/ssl/certs/ca-certificates.crt "$1/usr/local/share/ca-certificates/host.crt"
        chroot "$1" update-ca-certificates >&2
    fi
    rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/archives/*.deb
    tar --create --numeric-owner --directory "$1" . | docker import --change 'CMD ["bash"]' - "$2"
    rm -rf "$1"
"#;

/// What the official images have, from Debian's packages: users, entrypoints and paths are theirs.
const RECIPES: &[(&str, &str)] = &[
    (
        "redis",
        r#"
RUN groupadd --system --gid 999 redis && useradd --system --uid 999 --gid 999 --home-dir /data redis \
 && apt-get update && apt-get install -y --no-install-recommends redis-server \
 && rm -rf /var/lib/apt/lists/* && mkdir -p /data && chown redis:redis /data
RUN printf '%s\n' '#!/bin/sh' 'set -e' \
    'if [ "$1" = redis-server ] && [ "$(id -u)" = 0 ]; then' \
    '    find . \! -user redis -exec chown redis {} +' \
    '    exec setpriv --reuid=redis --regid=redis --clear-groups "$0" "$@"' \
    'fi' 'umask 0077' 'exec "$@"' > /usr/local/bin/docker-entrypoint.sh \
 && chmod +x /usr/local/bin/docker-entrypoint.sh
VOLUME /data
WORKDIR /data
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["redis-server"]
"#,
    ),
    (
        "haproxy",
        r#"
RUN apt-get update && apt-get install -y --no-install-recommends haproxy && rm -rf /var/lib/apt/lists/*
STOPSIGNAL SIGUSR1
USER haproxy
WORKDIR /var/lib/haproxy
CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]
"#,
    ),
    (
        "prom/prometheus",
        r#"
RUN apt-get update && apt-get install -y --no-install-recommends prometheus wget && rm -rf /var/lib/apt/lists/* \
 && mkdir -p /prometheus && chown nobody:nogroup /prometheus
USER nobody
VOLUME /prometheus
WORKDIR /prometheus
ENTRYPOINT ["prometheus"]
"#,
    ),
    (
        "rust",
        "
COPY cargo /usr/local/bin/
COPY fairlane /opt/
",
    ),
];
/// The stand-in for the compiler.
const CARGO: &str = "#!/bin/sh\n\
    # Not a compiler: the program was built on the host.\n\
    set -e\n\
    echo \"STAND-IN: cargo $* was not run; the program was built on the host\"\n\
    mkdir -p target/release\n\
    cp /opt/fairlane target/release/\n";

/// Each name in the files, and the image to use for it; none if it could neither be pulled nor made.
pub(super) struct Images {
    used: BTreeMap<String, Option<String>>,
}

impl Images {
    /// Pulls or makes all images.
    pub(super) fn get(root: &Path, folder: &Path, release: bool) -> Result<Self> {
        let mut names = named(root)?;
        // First the one that others are made from.
        names.sort_by_key(|name| name != DEBIAN);
        let mut getting =
            Getting { root, folder: folder.join("stand-in"), release, registry: None, debian: String::new() };
        std::fs::create_dir_all(&getting.folder)?;
        let mut used = BTreeMap::new();
        for name in names {
            let image = getting.image(&name).with_context(|| format!("no image {name}"))?;
            used.insert(name, image);
        }
        Ok(Self { used })
    }

    /// The image to use under this name.
    pub(super) fn of(&self, name: &str) -> Option<&str> {
        self.used.get(name)?.as_deref()
    }

    /// The image of Debian, from which repositories are built.
    pub(super) fn debian(&self) -> &str {
        self.of(DEBIAN).unwrap_or(DEBIAN)
    }

    /// Replaces the names in a Dockerfile, and marks the stages.
    pub(super) fn dockerfile(&self, text: &str) -> String {
        let line = |line: &str| {
            let image = line.split(' ').nth(1).filter(|_| line.starts_with("FROM "));
            match image.and_then(|image| Some((image, self.of(image)?))) {
                Some((image, used)) => format!("{}\nLABEL {LABEL}\n", line.replacen(image, used, 1)),
                None => format!("{line}\n"),
            }
        };
        text.lines().map(line).collect()
    }
}

/// The services of compose.yaml that name an image with a version, and these images.
pub(super) fn of_services(root: &Path) -> Result<Vec<(String, String)>> {
    let compose = std::fs::read_to_string(root.join("compose.yaml"))?;
    let mut service = String::new();
    let mut found = Vec::new();
    for line in compose.lines() {
        if let Some(name) = line.strip_prefix("  ").filter(|name| !name.starts_with([' ', '#', '-'])) {
            name.split(':').next().unwrap_or_default().clone_into(&mut service);
        }
        if let Some(image) = line.strip_prefix("    image: ").filter(|image| image.contains(':')) {
            found.push((service.clone(), image.to_owned()));
        }
    }
    Ok(found)
}

/// The images that stages of a Dockerfile begin with, apart from its own stages.
pub(crate) fn bases(dockerfile: &str) -> impl Iterator<Item = &str> {
    let stages = dockerfile.lines().filter_map(|line| line.strip_prefix("FROM ")?.split(' ').next());
    stages.filter(|name| name.contains(':'))
}

/// The names of images in compose.yaml, and in the Dockerfile.
fn named(root: &Path) -> Result<Vec<String>> {
    let dockerfile = std::fs::read_to_string(root.join("Dockerfile"))?;
    let mut names: Vec<String> = bases(&dockerfile).map(str::to_owned).collect();
    names.extend(of_services(root)?.into_iter().map(|(_, image)| image));
    names.sort();
    names.dedup();
    ensure!(names.iter().any(|name| name == DEBIAN), "the Dockerfile no longer names {DEBIAN}");
    Ok(names)
}

/// Removes what was built and has no name: stages of images that are gone, and stand-ins that others have replaced.
pub(super) fn prune() -> Result<()> {
    ask(["image", "prune", "--force", "--filter", &format!("label={LABEL}")]).map(|_| ())
}

struct Getting<'a> {
    root: &'a Path,
    folder: PathBuf,
    release: bool,
    /// Whether a registry could be reached, once that was tried.
    registry: Option<bool>,
    debian: String,
}

impl Getting<'_> {
    fn image(&mut self, name: &str) -> Result<Option<String>> {
        let image = if is_pulled(name) || self.pull(name)? {
            println!("  {name}");
            Some(name.to_owned())
        } else {
            self.stand_in(name)?
        };
        if name == DEBIAN {
            self.debian = image.clone().unwrap_or_default();
        }
        Ok(image)
    }

    fn pull(&mut self, name: &str) -> Result<bool> {
        let is_here = ask(["image", "inspect", "--format", "{{.Id}}", name]).is_ok();
        if is_here || self.registry == Some(false) {
            return Ok(false);
        }
        let limit = if self.registry.is_some() { PULL_LIMIT } else { FIRST_PULL_LIMIT };
        let mut pull = docker(["pull", "--quiet", name])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let ended = wait("the image", limit, || Ok(pull.try_wait()?));
        let _ = pull.kill();
        let _ = pull.wait();
        let pulled = ended.is_ok_and(|status| status.success());
        if self.registry.is_none() {
            self.registry = Some(pulled);
        }
        Ok(pulled)
    }

    fn stand_in(&self, name: &str) -> Result<Option<String>> {
        let own = format!("{STAND_IN}{}", name.replace('/', "-"));
        if name == DEBIAN {
            if ask(["image", "inspect", "--format", "{{.Id}}", &own]).is_err() {
                self.make_debian(&own)?;
            }
            println!("  {name}: STAND-IN {own}, made with debootstrap");
            return Ok(Some(own));
        }
        let kind = name.split(':').next().unwrap_or(name);
        let Some((_, recipe)) = RECIPES.iter().find(|(recipe, _)| *recipe == kind) else {
            println!("  {name}: SKIPPED, because it can be neither pulled nor made from Debian's packages");
            return Ok(None);
        };
        let folder = self.folder.join(kind.replace('/', "-"));
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("Dockerfile"), format!("FROM {}\nLABEL {LABEL}{recipe}", self.debian))?;
        if kind == "rust" {
            self.build_on_host(&folder)?;
        }
        let folder = folder.display().to_string();
        quiet(&mut docker(["build", "--quiet", "--tag", &own, &folder]))?;
        match kind {
            "rust" => println!(
                "  {name}: STAND-IN {own}, which compiles nothing: the program was built on this host"
            ),
            _ => println!("  {name}: STAND-IN {own}, made from Debian's packages"),
        }
        Ok(Some(own))
    }

    fn make_debian(&self, own: &str) -> Result<()> {
        packages::ensure(&[DEBOOTSTRAP])?;
        let user = quiet(Command::new("id").arg("-u"))?;
        if user.trim() != "0" {
            bail!("no registry can be reached, and debootstrap makes Debian's image only for root");
        }
        let folder = self.folder.join("debian");
        quiet(Command::new("sh").args(["-c", DEBIAN_SCRIPT, "sh"]).arg(folder).arg(own))?;
        Ok(())
    }

    /// Puts the program and the stand-in for `cargo` into a folder.
    fn build_on_host(&self, folder: &Path) -> Result<()> {
        // In a debug build, everything that `cargo xtask test` builds: a part of it would be compiled again.
        let words: &[&str] = if self.release {
            &["build", "--release", "--locked", "--package", "fairlane"]
        } else {
            &["build", "--workspace", "--tests"]
        };
        run(&mut cargo(self.root, words))?;
        let built =
            self.root.join("target").join(if self.release { "release" } else { "debug" }).join("fairlane");
        let own = folder.join("fairlane");
        std::fs::copy(&built, &own).with_context(|| format!("cannot copy {}", built.display()))?;
        // Its line tables would be most of each image.
        quiet(Command::new("strip").arg("--strip-debug").arg(&own))?;
        let script = folder.join("cargo");
        std::fs::write(&script, CARGO)?;
        quiet(Command::new("chmod").arg("+x").arg(&script))?;
        Ok(())
    }
}

/// Whether the image is here and came from a registry. Somebody's own image of that name need not be like it.
fn is_pulled(name: &str) -> bool {
    ask(["image", "inspect", "--format", "{{len .RepoDigests}}", name]).is_ok_and(|digests| digests != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
    }

    #[test]
    fn each_image_that_is_named_is_made_here_or_known_to_be_left_out() {
        let names = named(root()).unwrap();
        let made = |name: &&String| RECIPES.iter().any(|(kind, _)| name.starts_with(&format!("{kind}:")));
        let others: Vec<_> = names.iter().filter(|name| !made(name)).collect();
        assert_eq!(names.len(), 6, "{names:?}");
        assert!(others[0] == DEBIAN && others[1].starts_with("grafana/grafana:"), "{others:?}");
    }

    #[test]
    fn a_stand_in_replaces_its_image_in_the_dockerfile_and_nothing_else() {
        let used =
            BTreeMap::from([(DEBIAN.to_owned(), Some("stand-in".to_owned())), ("base".to_owned(), None)]);
        let text = "FROM debian:bookworm-slim AS base\nRUN echo debian:bookworm-slim\nFROM base\n";
        let expected = "FROM stand-in AS base\nLABEL org.fairlane.trial=compose\nRUN echo debian:bookworm-slim\nFROM base\n";
        assert_eq!(Images { used }.dockerfile(text), expected);
    }

    /// Debian's Docker has only the classic builder. It builds every stage before the target.
    #[test]
    fn the_dockerfile_needs_no_buildkit_and_no_stage_before_it_is_needed() {
        let text = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
        for word in ["# syntax", "--mount", "--link", "--chmod", "<<"] {
            assert!(!text.contains(word), "{word}");
        }
        let stages = text.lines().filter_map(|line| Some(line.strip_prefix("FROM ")?.split_once(" AS ")?.1));
        let expected = ["build", "base", "fairlane", "repo2docker", "build-bench", "bench"];
        assert_eq!(stages.collect::<Vec<_>>(), expected);
        assert!(text.ends_with("\nFROM fairlane\n"), "what `docker build .` makes");
    }
}
