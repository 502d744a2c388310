//! The key with which `fairlane up` seals secrets if none is set, so that private repositories can be built
//! without further setup. It is stored next to the queue's data, readable only by its owner.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{ErrorKind, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use secrecy::SecretString;

/// More than any key file of ours has.
const FILE_BYTES_MAX: u64 = 1024;

/// The key in `folder`. It is created if there is none.
pub(crate) fn in_folder(folder: &Path) -> Result<SecretString> {
    let path = folder.join("seal.key");
    let cannot = || format!("the seal key {} cannot be kept", path.display());
    match File::options().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            let key = random_key()?;
            file.write_all(key.as_bytes()).with_context(cannot)?;
            Ok(SecretString::from(key))
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mut key = String::new();
            File::open(&path)
                .with_context(cannot)?
                .take(FILE_BYTES_MAX)
                .read_to_string(&mut key)
                .with_context(cannot)?;
            Ok(SecretString::from(key.trim().to_owned()))
        }
        Err(error) => Err(error).with_context(cannot),
    }
}

fn random_key() -> Result<String> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .context("/dev/urandom")?;
    let mut key = "up:".to_owned();
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(key, "{byte:02x}");
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use fairlane_common::seal::SealKeys;
    use fairlane_testkit::TempDir;
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn it_is_made_once_and_for_the_owner_only() {
        let folder = TempDir::new();
        let first = in_folder(folder.path()).unwrap();
        assert!(SealKeys::parse(&first).is_ok());
        assert_eq!(in_folder(folder.path()).unwrap().expose_secret(), first.expose_secret());
        let mode = folder.join("seal.key").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
