//! Where the broker reads: `run/pki/` and `run/acl`.
//!
//! A set is written to a directory of its own, `run/pki.<number>`, to which the symbolic link `run/pki` is then
//! turned: whoever opens a file of it gets the old set or the new one, never a half-written file. The ACL is a regular
//! file, because Mosquitto 2.1 opens it with `O_NOFOLLOW`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::Path;

use crate::look::{FILES, Files};

/// Makes `files` the set that the broker reads.
///
/// # Errors
/// When `run` cannot be written; what was in place stays.
pub(crate) fn set(run: &Path, files: &Files) -> io::Result<()> {
    let name = format!("pki.{}", sets(run)?.into_iter().max().unwrap_or(0) + 1);
    let directory = run.join(&name);
    DirBuilder::new().mode(0o700).create(&directory)?;
    for (file, content) in FILES.iter().zip(files.contents()) {
        write(&directory.join(file), content.as_bytes())?;
    }
    let link = run.join("pki.link");
    remove_if_there(&link)?;
    symlink(&name, &link)?;
    fs::rename(&link, run.join("pki"))?;
    for older in sets(run)?.into_iter().map(|number| format!("pki.{number}")).filter(|set| *set != name) {
        fs::remove_dir_all(run.join(older))?;
    }
    Ok(())
}

/// Makes `text` the rules that the broker reads.
///
/// # Errors
/// When `run` cannot be written; what was in place stays.
pub(crate) fn acl(run: &Path, text: &str) -> io::Result<()> {
    let new = run.join("acl.new");
    remove_if_there(&new)?;
    write(&new, text.as_bytes())?;
    fs::rename(new, run.join("acl"))
}

/// For the owner alone: the broker runs under the same uid, and warns of anything more.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?.write_all(content)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The numbers of the sets that are there, in place or not.
fn sets(run: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(run)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.strip_prefix("pki.")?.parse::<u64>().ok()));
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files(text: &str) -> Files {
        let it = || text.to_owned();
        Files { certificate: it(), key: it().into(), roots: it(), crls: it() }
    }

    fn names(run: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(run)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn one_set_follows_the_other_and_only_the_last_stays() {
        let run = tempfile::tempdir().unwrap();
        set(run.path(), &files("one")).unwrap();
        set(run.path(), &files("two")).unwrap();
        acl(run.path(), "topic read a").unwrap();
        acl(run.path(), "topic read b").unwrap();
        assert_eq!(names(run.path()), ["acl", "pki", "pki.2"]);
        assert_eq!(Files::read(&run.path().join("pki")).unwrap(), files("two"));
        assert_eq!(fs::read_to_string(run.path().join("acl")).unwrap(), "topic read b");
    }

    #[test]
    fn only_the_owner_may_read_the_key() {
        let run = tempfile::tempdir().unwrap();
        set(run.path(), &files("one")).unwrap();
        let mode = fs::metadata(run.path().join("pki/tls.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o400);
    }

    #[test]
    fn what_a_run_that_was_cut_short_left_behind_is_in_nobodys_way() {
        let run = tempfile::tempdir().unwrap();
        fs::create_dir(run.path().join("pki.1")).unwrap();
        fs::write(run.path().join("pki.1/tls.crt"), "half").unwrap();
        symlink("pki.1", run.path().join("pki.link")).unwrap();
        fs::write(run.path().join("acl.new"), "half").unwrap();
        set(run.path(), &files("one")).unwrap();
        acl(run.path(), "topic read a").unwrap();
        assert_eq!(names(run.path()), ["acl", "pki", "pki.2"]);
    }
}
