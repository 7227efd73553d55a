//! Five thousand devices that all speak once a second, and ten tabs that look at them: what the dashboard and the tabs need, and
//! whether they need more and more. The tabs are of a real Chromium; dashboard/browser-tests/drill-load.mjs opens them, and
//! publishes for the devices through the real broker.

use std::time::Duration;

use anyhow::Result;
use e2e::{environment, figures::figures, site};
use serde::Deserialize;

use crate::browser;

const DEVICES: u32 = 5_000;
/// `CA_IOT_DRILL_TIME=1800` for the half hour that is promised.
const USUAL: Duration = Duration::from_mins(12);
/// Making the devices, and opening the tabs.
const BEFORE: Duration = Duration::from_mins(15);
/// What a tab may hold more at its leanest moment in the second half than in the first: the noise of a collector, not a leak.
const GROWTH_MEBIBYTES: f64 = 1.0;

/// What drill-load.mjs leaves in the file `OUT`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Load {
    core_percent: f64,
    core_percent_in_the_busiest_minute: f64,
    mebibytes: f64,
    messages_per_second: f64,
    streams: u32,
    tabs: Vec<Tab>,
    frames_per_second: Vec<f64>,
    search_millis: Vec<f64>,
}

#[derive(Deserialize)]
struct Tab {
    at: String,
    /// Least heap in the first half and in the second, once what is kept has filled up.
    early: f64,
    late: f64,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill dashboard-load"]
async fn five_thousand_devices_and_ten_tabs() -> Result<()> {
    let seconds = environment::drill_time(USUAL)?.as_secs();
    site("load", async |site| {
        figures(&format!("{DEVICES} devices at a reading a second, ten tabs, {seconds} s"), async |figures| {
            browser::complete(site).await?;
            let variables = [("DEVICES", DEVICES.to_string()), ("SECONDS", seconds.to_string())];
            let within = BEFORE + 2 * Duration::from_secs(seconds);
            let load: Load = browser::run(site, "drill-load.mjs", &variables, within).await?;
            figures.exactly("streams that leave the server", 10, load.streams);
            let rate = load.messages_per_second;
            let all = f64::from(DEVICES);
            figures.bounded(
                "messages that reach it, a second",
                format_args!("≥ {:.0}", all * 0.98),
                format_args!("{rate:.0}"),
                rate >= all * 0.98,
            );
            let below = |bound: f64, measured: f64| measured < bound;
            figures.bounded(
                "the server, of a core",
                "< 50 %",
                format_args!(
                    "{:.1} % ({:.1} % in the busiest minute)",
                    load.core_percent, load.core_percent_in_the_busiest_minute
                ),
                below(50.0, load.core_percent_in_the_busiest_minute),
            );
            figures.bounded(
                "the server, resident",
                "< 200 MiB",
                format_args!("{:.0} MiB", load.mebibytes),
                below(200.0, load.mebibytes),
            );
            for Tab { at, early, late } in &load.tabs {
                figures.bounded(
                    format_args!("heap of a tab at `{at}`, least in the first and in the second half"),
                    format_args!("≤ {GROWTH_MEBIBYTES} MiB more"),
                    format_args!("{early:.1} MiB, {late:.1} MiB"),
                    late - early <= GROWTH_MEBIBYTES,
                );
            }
            let slowest = load.frames_per_second.iter().copied().fold(f64::INFINITY, f64::min);
            figures.bounded(
                format_args!("scrolling the table, {} times", load.frames_per_second.len()),
                "≥ 50 frames/s",
                format_args!("{slowest:.1} frames/s at the slowest"),
                slowest >= 50.0,
            );
            let longest = load.search_millis.iter().copied().fold(0.0, f64::max);
            figures.bounded(
                "a letter typed into the search, until it is painted",
                "≤ 100 ms",
                format_args!("{longest:.0} ms at the longest"),
                longest <= 100.0,
            );
            Ok(())
        })
        .await
    })
    .await
}
