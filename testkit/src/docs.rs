//! Files that tests keep true: they are compared with what the program says, and written anew if `UPDATE_DOCS` is set.

use std::path::Path;

/// Compares a page's part between `<!-- name -->` and the next `<!-- end -->` with `part`.
///
/// # Panics
/// Where they differ, or the page has no such part.
pub fn keep_docs(page: &Path, name: &str, part: &str) {
    let found = std::fs::read_to_string(page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
    let start = format!("<!-- {name} -->\n");
    let cut = found
        .split_once(&start)
        .and_then(|(before, rest)| Some((before, rest.split_once("<!-- end -->")?.1)));
    let (before, after) = cut.unwrap_or_else(|| panic!("{} has no part {name}", page.display()));
    keep_file(page, &format!("{before}{start}{part}<!-- end -->{after}"));
}

/// Compares a whole file; one that is not there differs.
///
/// # Panics
/// Where they differ.
pub fn keep_file(path: &Path, expected: &str) {
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let written = std::fs::write(path, expected);
        return written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == expected, "{} differs from what is so: UPDATE_DOCS=1 writes it anew", path.display());
}
