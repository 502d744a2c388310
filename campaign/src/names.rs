//! Names of images, exactly as `BinderHub` makes them (`_safe_build_slug` and the handler of builds in `binderhub/builder.py`).
//! Unchanged since 2018; `tests/it/names.rs` compares them with what `BinderHub`'s own code gave.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};

/// Longest image name without its tag.
const NAME_MAX: usize = 255;
/// Digits of the slug's hash.
const HASH_DIGITS: usize = 6;
/// Longest prefix: it leaves room for one character of the slug.
pub const PREFIX_MAX: usize = NAME_MAX - HASH_DIGITS - 2;

/// The image of a repository at a resolved ref. `slug` is the provider's name for the repository.
pub fn image(prefix: &str, slug: &str, reference: &str) -> String {
    let limit = NAME_MAX.saturating_sub(prefix.len());
    format!("{prefix}{}:{reference}", safe_slug(slug, limit)).replace('_', "-").to_lowercase()
}

/// A slug that fits into names, with a hash that tells shortened ones apart.
fn safe_slug(slug: &str, limit: usize) -> String {
    let hash = digest(&SHA256, slug.as_bytes());
    let mut digits = String::new();
    for byte in hash.as_ref().iter().take(HASH_DIGITS / 2) {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    let mut name = escape(slug);
    name.truncate(limit.saturating_sub(HASH_DIGITS + 1));
    format!("{name}-{digits}").to_ascii_lowercase()
}

/// Replaces each byte of other characters than letters and digits with `-` and its hexadecimal digits.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail. Not padded to two digits, as there.
            let _ = write!(escaped, "-{byte:X}");
        }
    }
    escaped
}
