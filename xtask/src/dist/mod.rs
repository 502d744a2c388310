//! `dist`: what is published of a release, in `target/dist`.

mod sbom;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::compose::bases;
use crate::shell::{cargo, quiet, run, succeeds};
use crate::{test, tidy, venv};

/// Builds the wheel of the adapter.
const WHEEL: &[&str] = &["pip==25.3", "setuptools==80.9.0"];

struct Dist<'a> {
    root: &'a Path,
    folder: PathBuf,
    version: String,
    /// The commit's time in seconds: the time of the files in the program's archive and in the wheel.
    time: String,
}

/// Makes everything.
pub(crate) fn make(root: &Path) -> Result<()> {
    // Every part has the same version.
    tidy::run(root)?;
    let folder = root.join("target/dist");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let time = quiet(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(root))?;
    let dist = Dist { root, folder, version: tidy::version(root)?, time: time.trim().to_owned() };
    dist.binary()?;
    dist.chart()?;
    dist.wheel()?;
    dist.write(&format!("fairlane-{}.cdx.json", dist.version), &sbom::of(root, &dist.version)?)?;
    dist.image()?;
    dist.sums()
}

impl Dist<'_> {
    /// The program with its license, for this machine's system.
    fn binary(&self) -> Result<()> {
        run(&mut cargo(self.root, &["build", "--release", "--locked", "--package", "fairlane"]))?;
        let rustc = quiet(Command::new("rustc").arg("-vV"))?;
        let host =
            rustc.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        let name = format!("fairlane-{}-{host}", self.version);
        let inner = self.root.join("target").join("dist-binary").join(&name);
        std::fs::create_dir_all(&inner)?;
        for file in ["target/release/fairlane", "LICENSE", "README.md", "CHANGELOG.md"] {
            let path = self.root.join(file);
            std::fs::copy(&path, inner.join(path.file_name().unwrap_or_default()))
                .with_context(|| format!("cannot copy {file}"))?;
        }
        let archive = self.folder.join(format!("{name}.tar.gz"));
        run(Command::new("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
            .arg(format!("--mtime=@{}", self.time))
            .arg("-czf")
            .arg(archive)
            .arg(name)
            .current_dir(self.root.join("target/dist-binary")))
    }

    /// The chart, as `helm package` makes it: with Helm's own engine, which then reads it again.
    fn chart(&self) -> Result<()> {
        const PACK: &str = "import sys, helm_python as helm\n\
                            path = helm.package(sys.argv[1], destination=sys.argv[2])\n\
                            helm.Chart.load(path)";
        let python = venv::python(self.root, "helm", &[test::HELM])?;
        run(Command::new(python)
            .args(["-c", PACK])
            .arg(self.root.join("deploy/helm/fairlane"))
            .arg(&self.folder))
    }

    /// The adapter for `BinderHub`.
    fn wheel(&self) -> Result<()> {
        let python = venv::python(self.root, "wheel", WHEEL)?;
        // setuptools writes into the folder that it builds from.
        let copy = self.root.join("target/dist-wheel");
        let _ = std::fs::remove_dir_all(&copy);
        run(Command::new("cp").arg("-r").arg(self.root.join("binderhub")).arg(&copy))?;
        std::fs::copy(self.root.join("LICENSE"), copy.join("LICENSE"))?;
        run(Command::new(python)
            .args(["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"])
            .args(["--no-deps", "--no-build-isolation", "--wheel-dir"])
            .arg(&self.folder)
            .arg(copy)
            .env("SOURCE_DATE_EPOCH", &self.time))
    }

    /// The image of dispatchers and workers, if a container engine runs here.
    fn image(&self) -> Result<()> {
        let engine =
            ["docker", "podman"].into_iter().find(|engine| succeeds(Command::new(engine).arg("info")));
        let Some(engine) = engine else {
            println!(
                "\nSKIPPED: the container image, because neither docker nor podman has an engine here.\n"
            );
            return Ok(());
        };
        let dockerfile = std::fs::read_to_string(self.root.join("Dockerfile"))?;
        // The stages of other images come after its own.
        let stages = dockerfile.split(" AS fairlane\n").next().unwrap_or_default();
        for base in bases(stages) {
            let has = |command: &[&str]| succeeds(Command::new(engine).args(command).arg(base));
            if !has(&["image", "inspect"]) && !has(&["pull"]) {
                println!(
                    "\nSKIPPED: the container image, because {base} is not here and cannot be pulled.\n"
                );
                return Ok(());
            }
        }
        let name = format!("fairlane:{}", self.version);
        run(Command::new(engine)
            .args(["build", "--target", "fairlane", "--tag", &name, "."])
            .current_dir(self.root))?;
        let archive = self.folder.join(format!("fairlane-image-{}.tar", self.version));
        run(Command::new(engine).args(["save", "--output"]).arg(archive).arg(name))
    }

    /// The checksums, and a list for whoever runs it.
    fn sums(&self) -> Result<()> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            names.push(entry?.file_name());
        }
        names.sort();
        let sums = quiet(Command::new("sha256sum").args(&names).current_dir(&self.folder))?;
        self.write("SHA256SUMS", &sums)?;
        println!("\n{}:", self.folder.display());
        for name in &names {
            let bytes = std::fs::metadata(self.folder.join(name))?.len();
            println!("  {:>7.1} MB  {}", f64::from(u32::try_from(bytes / 1024)?) / 1024.0, name.display());
        }
        Ok(())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        std::fs::write(self.folder.join(name), text).with_context(|| format!("cannot write {name}"))
    }
}
