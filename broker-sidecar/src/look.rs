//! What is mounted. A mount is looked at, not watched: inotify instances are few per node and run out first on kind,
//! and five `stat` calls in half a second cost nothing that can be measured.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

/// The files of a set, in the order of [`Files::contents`].
pub(crate) const FILES: [&str; 4] = ["tls.crt", "tls.key", "ca.crt", "ca.crl"];

/// The files of one set.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Files {
    pub(crate) certificate: String,
    pub(crate) key: Zeroizing<String>,
    pub(crate) roots: String,
    pub(crate) crls: String,
}

/// Tells whether files were replaced or written since they were last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp(Vec<Option<[i64; 3]>>);

impl Files {
    /// Reads the set in `directory`. The kubelet replaces all files of a mount in one step, by turning the link
    /// `..data`; it is resolved once, so that no file is of another set than the others.
    ///
    /// # Errors
    /// When a file is missing or cannot be read, with its name.
    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        let set = match fs::canonicalize(directory.join("..data")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => directory.to_owned(),
            set => set?,
        };
        let read = |name: &str| {
            fs::read_to_string(set.join(name))
                .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))
        };
        let [certificate, key, roots, crls] = FILES;
        Ok(Self {
            certificate: read(certificate)?,
            key: read(key)?.into(),
            roots: read(roots)?,
            crls: read(crls)?,
        })
    }

    /// The contents in the order of [`FILES`].
    pub(crate) fn contents(&self) -> [&str; 4] {
        [&self.certificate, &self.key, &self.roots, &self.crls]
    }
}

impl std::fmt::Debug for Files {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Files(<redacted>)")
    }
}

impl Stamp {
    /// The stamp of the set in `directory`.
    pub(crate) fn of_set(directory: &Path) -> Self {
        Self(FILES.iter().map(|name| identity(&directory.join(name))).collect())
    }

    /// The stamp of one file.
    pub(crate) fn of_file(path: &Path) -> Self {
        Self(vec![identity(path)])
    }
}

/// Inode and time of the last change of what `path` leads to.
fn identity(path: &Path) -> Option<[i64; 3]> {
    let it = fs::metadata(path).ok()?;
    Some([it.ino().cast_signed(), it.ctime(), it.ctime_nsec()])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write_set(directory: &Path, content: &str) {
        fs::create_dir(directory).unwrap();
        for name in FILES {
            fs::write(directory.join(name), content).unwrap();
        }
    }

    #[test]
    fn a_swap_by_the_kubelet_is_seen_and_read_as_a_whole() {
        let mount = tempfile::tempdir().unwrap();
        write_set(&mount.path().join("..1"), "one");
        symlink("..1", mount.path().join("..data")).unwrap();
        for name in FILES {
            symlink(Path::new("..data").join(name), mount.path().join(name)).unwrap();
        }
        let before = Stamp::of_set(mount.path());
        assert_eq!(before, Stamp::of_set(mount.path()));
        assert_eq!(Files::read(mount.path()).unwrap().contents(), ["one"; 4]);

        write_set(&mount.path().join("..2"), "two");
        symlink("..2", mount.path().join("..data_tmp")).unwrap();
        fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
        assert_ne!(before, Stamp::of_set(mount.path()));
        assert_eq!(Files::read(mount.path()).unwrap().contents(), ["two"; 4]);
    }

    #[test]
    fn a_missing_file_is_named() {
        let mount = tempfile::tempdir().unwrap();
        fs::write(mount.path().join("tls.crt"), "one").unwrap();
        let error = Files::read(mount.path()).unwrap_err();
        assert!(error.to_string().starts_with("tls.key: "), "{error}");
    }

    #[test]
    fn a_key_is_not_shown() {
        let mount = tempfile::tempdir().unwrap();
        write_set(&mount.path().join("set"), "secret");
        let files = Files::read(&mount.path().join("set")).unwrap();
        assert!(!format!("{files:?}").contains("secret"));
    }
}
