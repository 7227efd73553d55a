//! A mounted Secret: files that are links into `..data`, which is a link to the directory of one version.

use std::{fs, os::unix::fs::symlink, path::Path};

use tempfile::TempDir;

use crate::authority::Secret;

pub(crate) struct Volume(TempDir);

impl Volume {
    pub(crate) fn mount(secret: &Secret) -> Self {
        let volume = Self(tempfile::tempdir().unwrap());
        volume.swap(secret);
        volume
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Replaces the files as the kubelet does: a new directory, and the link turned to it.
    pub(crate) fn swap(&self, secret: &Secret) {
        let Secret { tls_crt, tls_key, ca_crt, ca_crl } = secret;
        let mount = self.path();
        let older = fs::read_link(mount.join("..data")).ok();
        let version = tempfile::Builder::new().prefix("..").tempdir_in(mount).unwrap().keep();
        for (name, content) in
            [("tls.crt", tls_crt), ("tls.key", tls_key), ("ca.crt", ca_crt), ("ca.crl", ca_crl)]
        {
            fs::write(version.join(name), content).unwrap();
            let link = mount.join(name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        let new = mount.join("..data_tmp");
        symlink(version.file_name().unwrap(), &new).unwrap();
        fs::rename(new, mount.join("..data")).unwrap();
        if let Some(older) = older {
            fs::remove_dir_all(mount.join(older)).unwrap();
        }
    }
}
