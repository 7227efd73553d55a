//! Which certificate the broker really presents: seen in a handshake of our own, beside what its Secret holds.

use std::time::Duration;

use jiff::Timestamp;
use link::{BrokerAddress, Link, Served, served};

use crate::live::Live;
use crate::state::wire::Handshake;

/// How often it is asked whether one is due, see `State::handshake_due`.
const ASK_EVERY: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks whenever a look is due, until the end of the process.
pub(super) async fn follow(live: &Live, address: &BrokerAddress, link: &Link) {
    let mut every = tokio::time::interval(ASK_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if !live.with(|state| state.handshake_due(Timestamp::now())) {
            continue;
        }
        let seen = served(address, &link.identity(), PATIENCE).await;
        let at = Timestamp::now();
        match seen {
            Ok(seen) => live.with(|state| state.handshake(handshake(address, seen, at))),
            // Whether the broker answers at all is told by the session; here only the certificate counts.
            Err(error) => {
                tracing::warn!(%error, "the broker's certificate could not be seen");
                live.with(|state| state.handshake_failed(at));
            }
        }
    }
}

fn handshake(address: &BrokerAddress, seen: Served, at: Timestamp) -> Handshake {
    let Served { serial_number, fingerprint, not_after, distrust } = seen;
    Handshake {
        endpoint: address.to_string(),
        at: at.as_millisecond(),
        serial_number,
        fingerprint,
        not_after: not_after.as_millisecond(),
        distrust,
    }
}
