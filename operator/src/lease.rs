//! Which replica leads: a `Lease`, written as client-go's leader election writes it, so that `kubectl` and people can read it.
//!
//! The leader writes it every seven seconds and reads nothing: it knows the version that it wrote last, and whoever writes in
//! between makes the next write fail. A standby asks for nothing either, it watches. It takes over at once when the lease is
//! given back, and otherwise when it has seen no change for fifteen seconds by its own monotonic clock: neither a
//! skewed nor a stepped clock makes two leaders. The leader stops before that, when twelve seconds brought no renewal.

use std::pin::pin;
use std::time::Duration;

use futures::TryStreamExt as _;
use futures::future::{Either, select};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::error::in_short;

/// Its name, whatever the release is called: two releases in one namespace would write over each other.
pub const NAME: &str = "ca-iot-operator";

/// How long a standby waits after the last change that it saw.
const DURATION: Duration = Duration::from_secs(15);
/// How long the leader goes on without a renewal.
const DEADLINE: Duration = Duration::from_secs(12);
/// How often the leader renews it.
const RENEW: Duration = Duration::from_secs(7);
/// How long either waits after a failure.
const RETRY: Duration = Duration::from_secs(2);
/// How long one watch lasts, in seconds: the most that the API server is sure to grant.
const WATCH_SECONDS: u32 = 290;

/// The part of one replica in the election.
#[derive(Clone)]
pub struct Election {
    leases: Api<Lease>,
    identity: String,
}

/// What became of an attempt to write the lease.
enum Attempt {
    /// It is ours, in this version.
    Held(Box<Lease>),
    /// Somebody else wrote it.
    Beaten,
}

// === impl Election ===

impl Election {
    /// Stands for election in `namespace` as `identity`, which no other replica may have at the same time.
    pub fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self { leases: Api::namespaced(client, namespace), identity: identity.to_owned() }
    }

    /// Waits for the lease, then does `work` while it is held. None: it was lost, and `work` was dropped where it was.
    pub async fn lead<F: Future>(&self, work: F) -> Option<F::Output> {
        let (lease, since) = self.acquire().await;
        tracing::info!(identity = %self.identity, "leading");
        match select(pin!(work), pin!(self.hold(lease, since))).await {
            Either::Left((output, _)) => Some(output),
            Either::Right(((), _)) => None,
        }
    }

    /// Gives the lease back, if it is ours: the next replica takes it at once. For after the work has been dropped.
    pub async fn release(&self) {
        let released = async {
            let Some(mut lease) = self.leases.get_opt(NAME).await? else { return Ok(()) };
            if holder(&lease) != Some(&self.identity) {
                return Ok(());
            }
            let transitions = lease.spec.take().and_then(|spec| spec.lease_transitions);
            lease.spec = Some(LeaseSpec { lease_transitions: transitions, ..LeaseSpec::default() });
            self.leases.replace(NAME, &PostParams::default(), &lease).await.map(drop)
        };
        match timeout(RETRY, released).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(problem = %in_short(&error), "the lease was not given back"),
            Err(_) => tracing::warn!("the lease was not given back in time"),
        }
    }

    /// Waits until the lease is ours. Since when: before the request was sent that made it so.
    async fn acquire(&self) -> (Lease, Instant) {
        let mut seen = None;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(Some(held)) => return held,
                Ok(None) => {}
                Err(error) => {
                    let remedy = match &error {
                        kube::Error::Api(answer) if answer.code == 403 => {
                            ": give this account create, get, update and watch of leases"
                        }
                        _ => "; trying again",
                    };
                    tracing::warn!(problem = %in_short(&error), "the lease cannot be had{remedy}");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Takes the lease when it is free; otherwise returns when something may have changed.
    async fn try_acquire(
        &self,
        seen: &mut Option<(LeaseSpec, Instant)>,
    ) -> Result<Option<(Lease, Instant)>, kube::Error> {
        let started = Instant::now();
        let attempt = match self.leases.get_opt(NAME).await? {
            None => self.create().await?,
            Some(lease) => {
                let expires = note(seen, &lease, started);
                if !self.may_take(&lease) && started < expires {
                    return self.watch(&lease, seen, expires).await.map(|()| None);
                }
                self.write(&lease).await?
            }
        };
        Ok(match attempt {
            Attempt::Held(lease) => Some((*lease, started)),
            Attempt::Beaten => None,
        })
    }

    /// Watches the lease of another from this version on; returns when it can be taken, or when the watch ends.
    async fn watch(
        &self,
        lease: &Lease,
        seen: &mut Option<(LeaseSpec, Instant)>,
        mut expires: Instant,
    ) -> Result<(), kube::Error> {
        let only = WatchParams::default().fields(&format!("metadata.name={NAME}")).timeout(WATCH_SECONDS);
        let version = lease.resource_version().unwrap_or_default();
        let watching = timeout_at(expires, self.leases.watch(&only, &version)).await;
        let Ok(changes) = watching else { return Ok(()) };
        let mut changes = pin!(changes?);
        while let Ok(change) = timeout_at(expires, changes.try_next()).await {
            match change? {
                Some(WatchEvent::Added(lease) | WatchEvent::Modified(lease)) if !self.may_take(&lease) => {
                    expires = note(seen, &lease, Instant::now());
                }
                Some(WatchEvent::Bookmark(_)) => {}
                Some(WatchEvent::Error(status)) => return Err(kube::Error::Api(status)),
                // Free, or gone, or the watch is over: the next look tells which.
                Some(WatchEvent::Added(_) | WatchEvent::Modified(_) | WatchEvent::Deleted(_)) | None => break,
            }
        }
        Ok(())
    }

    /// Renews the lease until it is lost.
    async fn hold(&self, mut lease: Lease, mut renewed: Instant) {
        let mut next = renewed + RENEW;
        loop {
            sleep_until(next).await;
            let started = Instant::now();
            match timeout_at(renewed + DEADLINE, self.renew(&lease)).await {
                Ok(Ok(Attempt::Held(written))) => {
                    (lease, renewed, next) = (*written, started, started + RENEW);
                    continue;
                }
                Ok(Ok(Attempt::Beaten)) => {
                    tracing::warn!("the lease was taken by another replica");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(problem = %in_short(&error), "the lease could not be renewed; trying again");
                }
                Err(_) => {
                    tracing::warn!("the lease could not be renewed in time");
                    return;
                }
            }
            next = Instant::now() + RETRY;
            if next >= renewed + DEADLINE {
                tracing::warn!("the lease could not be renewed in time");
                return;
            }
        }
    }

    /// Writes the lease over the version that is known to be ours. When that is not the last one, looks whose it is: an
    /// answer may have been lost, or somebody may have labelled it.
    async fn renew(&self, lease: &Lease) -> Result<Attempt, kube::Error> {
        if let Attempt::Held(written) = self.write(lease).await? {
            return Ok(Attempt::Held(written));
        }
        match self.leases.get_opt(NAME).await? {
            Some(now) if holder(&now) == Some(&self.identity) => self.write(&now).await,
            _ => Ok(Attempt::Beaten),
        }
    }

    async fn create(&self) -> Result<Attempt, kube::Error> {
        let lease = Lease {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
            spec: Some(held_by(&self.identity, None, Timestamp::now())),
        };
        attempt(self.leases.create(&PostParams::default(), &lease).await)
    }

    /// Over this version of the lease and no other.
    async fn write(&self, lease: &Lease) -> Result<Attempt, kube::Error> {
        let spec = held_by(&self.identity, lease.spec.as_ref(), Timestamp::now());
        let lease = Lease { spec: Some(spec), ..lease.clone() };
        attempt(self.leases.replace(NAME, &PostParams::default(), &lease).await)
    }

    /// Nobody's, or our own of a life before: a container that is started again in its pod has the same name.
    fn may_take(&self, lease: &Lease) -> bool {
        holder(lease).is_none_or(|holder| holder == self.identity)
    }
}

fn attempt(written: Result<Lease, kube::Error>) -> Result<Attempt, kube::Error> {
    match written {
        Ok(lease) => Ok(Attempt::Held(Box::new(lease))),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Attempt::Beaten),
        Err(error) => Err(error),
    }
}

/// Whose it is; given back, it is nobody's.
fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// Takes note of what was read, and tells when it expires: `DURATION` after it was first seen so.
fn note(seen: &mut Option<(LeaseSpec, Instant)>, lease: &Lease, now: Instant) -> Instant {
    let spec = lease.spec.clone().unwrap_or_default();
    match seen {
        Some((last, since)) if *last == spec => *since + DURATION,
        _ => {
            *seen = Some((spec, now));
            now + DURATION
        }
    }
}

/// What stands in the lease when `identity` holds it, after `before`.
fn held_by(identity: &str, before: Option<&LeaseSpec>, now: Timestamp) -> LeaseSpec {
    let ours = before.is_some_and(|before| before.holder_identity.as_deref() == Some(identity));
    let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: before.filter(|_| ours).and_then(|b| b.acquire_time.clone()).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(if ours || before.is_none() { transitions } else { transitions + 1 }),
        ..LeaseSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_renewal_keeps_since_when_it_is_held_and_a_takeover_is_counted() {
        let first = held_by("a", None, at("2026-01-01T00:00:00Z"));
        assert_eq!(first.lease_transitions, Some(0));
        let renewed = held_by("a", Some(&first), at("2026-01-01T00:00:07Z"));
        assert_eq!(renewed.acquire_time, first.acquire_time);
        assert_ne!(renewed.renew_time, first.renew_time);
        assert_eq!(renewed.lease_transitions, Some(0));
        let taken = held_by("b", Some(&renewed), at("2026-01-01T00:00:30Z"));
        assert_eq!(taken.acquire_time, Some(MicroTime(at("2026-01-01T00:00:30Z"))));
        assert_eq!(taken.lease_transitions, Some(1));
    }

    #[tokio::test]
    async fn it_expires_when_it_was_not_seen_to_change_whatever_time_it_tells() {
        let lease = |second: &str| Lease {
            spec: Some(held_by("a", None, at(&format!("2026-01-01T00:00:{second}Z")))),
            ..Lease::default()
        };
        let (mut seen, start) = (None, Instant::now());
        assert_eq!(note(&mut seen, &lease("00"), start), start + DURATION);
        let later = start + Duration::from_secs(5);
        assert_eq!(note(&mut seen, &lease("00"), later), start + DURATION);
        assert_eq!(note(&mut seen, &lease("07"), later), later + DURATION);
        // its holder's clock was set back: a change all the same
        assert_eq!(note(&mut seen, &lease("01"), later), later + DURATION);
    }

    #[test]
    fn the_leader_stops_before_anybody_else_starts() {
        assert!(RENEW + 2 * RETRY < DEADLINE && DEADLINE < DURATION);
        // and what it asks of the API server stays below one request in four seconds
        assert!(RENEW > Duration::from_secs(4));
    }
}
