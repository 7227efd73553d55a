//! Tabs that sleep for ten minutes catch up by themselves: dashboard/browser-tests/drill-sleep.mjs stops every process of a real
//! browser, as a laptop that is closed does, and takes the network from another.

use std::time::Duration;

use anyhow::Result;
use e2e::{
    environment,
    figures::{figures, time},
    site,
};
use serde::Deserialize;

use crate::browser;

const USUAL: Duration = Duration::from_mins(10);
const BEFORE: Duration = Duration::from_mins(5);
/// Time to connect again, with the wait of a browser that was refused, and to load everything.
const CAUGHT_UP: Duration = Duration::from_secs(10);

/// What drill-sleep.mjs leaves in the file `OUT`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Woken {
    way: String,
    millis: u64,
    stood_still: u64,
    same_document: bool,
    live: bool,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill dashboard-sleep"]
async fn a_tab_that_slept_catches_up_by_itself() -> Result<()> {
    let asleep = environment::drill_time(USUAL)?;
    site("sleep", async |site| {
        figures(&format!("Tabs asleep for {} s", asleep.as_secs()), async |figures| {
            browser::complete(site).await?;
            let variables = [("SECONDS", asleep.as_secs().to_string())];
            let tabs: Vec<Woken> =
                browser::run(site, "drill-sleep.mjs", &variables, BEFORE + 2 * asleep).await?;
            for Woken { way, millis, stood_still, same_document, live } in tabs {
                let still = Duration::from_millis(stood_still);
                figures.bounded(
                    format_args!("{way}: nothing was painted for"),
                    format_args!("≥ {}", time(asleep)),
                    time(still),
                    still >= asleep,
                );
                figures.at_most(
                    format_args!("{way}: from waking to a value of now"),
                    CAUGHT_UP,
                    Duration::from_millis(millis),
                );
                figures.exactly(
                    format_args!("{way}: live, and not loaded anew by hand"),
                    true,
                    same_document && live,
                );
            }
            Ok(())
        })
        .await
    })
    .await
}
