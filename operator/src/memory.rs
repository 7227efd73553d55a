//! What this program holds in memory, private keys among it, stays there: no core dump, and nobody of the same user reads it.
//!
//! Keys themselves are wiped when they are dropped (`zeroize`): `pki::PrivateKey`, and what is read of Secrets in
//! [`certificate::secret`](crate::certificate::secret).

use anyhow::Context as _;
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Has the kernel neither write a core dump of this process nor let others of its user trace it or read its memory.
pub fn keep_private() -> anyhow::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .context("core dumps cannot be switched off")?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("this process cannot be made undumpable")
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn no_core_dump_is_written_and_no_memory_read() {
        keep_private().unwrap();
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        // whoever is not root finds the files of this process to be root's
        let memory = std::fs::metadata("/proc/self/mem").unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&memory), 0);
    }
}
