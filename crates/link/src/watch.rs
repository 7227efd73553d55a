//! Notices that the files of an identity were replaced.
//!
//! A Secret volume changes by one rename of its `..data` link, under which all files change at once.
//! One `stat` of each file a second sees that, and also plain files, bind mounts and network file
//! systems; it needs no kernel watch, which would have to follow the link's target each time.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    time::{MissedTickBehavior, interval},
};

use crate::{
    Identity, IdentityError, IdentitySource,
    identity::{CERTIFICATE, KEY, ROOTS},
};

const PERIOD: Duration = Duration::from_secs(1);

/// The identities to come.
#[derive(Debug)]
pub(crate) enum Identities {
    Files(mpsc::Receiver<Result<Arc<Identity>, IdentityError>>),
    Given(watch::Receiver<Arc<Identity>>),
}

impl Identities {
    /// The identity there is now, and those that follow it.
    pub(crate) fn follow(source: IdentitySource) -> Result<(Arc<Identity>, Self), IdentityError> {
        match source {
            IdentitySource::Given(mut given) => {
                let first = Arc::clone(&given.borrow_and_update());
                Ok((first, Self::Given(given)))
            }
            IdentitySource::Directory(directory) => {
                let (stamp, first) = read_at_rest(&directory)?;
                let first = Arc::new(first);
                let (changes, receiver) = mpsc::channel(1);
                tokio::spawn(watch_files(directory, stamp, Arc::clone(&first), changes));
                Ok((first, Self::Files(receiver)))
            }
        }
    }

    /// Waits for the next identity, or for files that are none. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Arc<Identity>, IdentityError> {
        let next = match self {
            Self::Files(changes) => changes.recv().await,
            Self::Given(given) => {
                given.changed().await.ok().map(|()| Ok(Arc::clone(&given.borrow_and_update())))
            }
        };
        match next {
            Some(next) => next,
            // Who gave the identity is gone: it is never replaced.
            None => std::future::pending().await,
        }
    }
}

/// Tells one state of the files from another: what each name points at, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp([Option<(u64, i64, i64, u64)>; 3]);

impl Stamp {
    fn of(directory: &Path) -> Self {
        Self([CERTIFICATE, KEY, ROOTS].map(|file| {
            let metadata = std::fs::metadata(directory.join(file)).ok()?;
            Some((metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
        }))
    }
}

/// Reads the set such that no file was replaced halfway.
fn read_at_rest(directory: &Path) -> Result<(Stamp, Identity), IdentityError> {
    let stamp = Stamp::of(directory);
    let identity = Identity::load(directory, Timestamp::now())?;
    if Stamp::of(directory) == stamp { Ok((stamp, identity)) } else { Err(IdentityError::Moving) }
}

/// Sends each new set, and each new problem, until nobody listens. A set with a problem is tried
/// again each second: its dates may come true, a missing file may arrive.
async fn watch_files(
    directory: PathBuf,
    mut seen: Stamp,
    mut current: Arc<Identity>,
    changes: mpsc::Sender<Result<Arc<Identity>, IdentityError>>,
) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut problem: Option<String> = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = changes.closed() => return,
        }
        if problem.is_none() && Stamp::of(&directory) == seen {
            continue;
        }
        let change = match read_at_rest(&directory) {
            Ok((stamp, identity)) => {
                seen = stamp;
                problem = None;
                if identity.same_set(&current) {
                    continue;
                }
                current = Arc::new(identity);
                Ok(Arc::clone(&current))
            }
            Err(IdentityError::Moving) => continue,
            Err(error) => {
                let text = error.to_string();
                if problem.as_ref() == Some(&text) {
                    continue;
                }
                problem = Some(text);
                Err(error)
            }
        };
        if changes.send(change).await.is_err() {
            return;
        }
    }
}
