//! Waiting for what must come true, with a deadline; never for time to pass.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

/// How often something is asked for that nobody tells about by itself.
const EVERY: Duration = Duration::from_millis(100);

/// Asks until there is an answer. Errors count as "not yet": the last one is told when the time is up.
pub async fn eventually<T>(
    what: impl Display,
    within: Duration,
    mut ask: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let from = Instant::now();
    let mut problem = None;
    loop {
        match tokio::time::timeout(within.saturating_sub(from.elapsed()), ask()).await {
            Ok(Ok(Some(answer))) => return Ok(answer),
            Ok(Ok(None)) | Err(_) => {}
            Ok(Err(error)) => problem = Some(error),
        }
        if from.elapsed() >= within {
            let seconds = within.as_secs_f32();
            return Err(match problem {
                Some(problem) => problem.context(format!("{what}: not within {seconds} s")),
                None => anyhow!("{what}: not within {seconds} s"),
            });
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The middle one of an odd number of measurements.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
