//! Where an image is kept: its name, split into registry, path and tag as Docker does.

/// Docker Hub's name in the names of images.
pub const HUB: &str = "docker.io";

/// An image's name, split into its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The registry's host, with its port if it has one; [`HUB`] if the image names none.
    pub registry: &'a str,
    /// The repository within the registry.
    pub path: &'a str,
    /// The tag.
    pub reference: &'a str,
}

impl<'a> Place<'a> {
    /// The parts of an image's name.
    pub fn of(image: &'a str) -> Self {
        let (registry, rest) = match image.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => {
                (canonical(first), rest)
            }
            _ => (HUB, image),
        };
        let (path, reference) = rest.rsplit_once(':').unwrap_or((rest, "latest"));
        Self { registry, path, reference }
    }

    /// The repository as the registry's API knows it.
    pub fn name(&self) -> String {
        let official = self.registry == HUB && !self.path.contains('/');
        format!("{}{}", if official { "library/" } else { "" }, self.path)
    }
}

/// The registry of an image as push limits know it.
pub fn of_image(image: &str) -> String {
    Place::of(image).registry.to_ascii_lowercase()
}

/// One name for each registry: Docker Hub has several.
pub fn canonical(registry: &str) -> &str {
    match registry {
        "index.docker.io" | "registry-1.docker.io" => HUB,
        other => other,
    }
}

/// Longest name of a registry.
const NAME_MAX: usize = 255;

/// Checks the name of a registry, as push limits have it: as in the names of images, and in lower case.
///
/// # Errors
/// Says what is wrong, and what is allowed.
pub fn check_name(registry: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | ':');
    if registry.is_empty() || registry.len() > NAME_MAX || !registry.chars().all(fits) {
        return Err(format!(
            "'{registry}' is not a registry; name it as images do, in lower case, such as registry.example.org:5000"
        ));
    }
    if canonical(registry) != registry {
        return Err(format!("'{registry}' must be written as {}", canonical(registry)));
    }
    Ok(())
}
