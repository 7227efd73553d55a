//! Two operators that start at the same moment on an empty namespace, again and again.

use anyhow::Result;
use e2e::{environment, figures::figures, root_race, site::empty_site};
use serde_json::json;

const TRIES: usize = 20;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a drill: cargo xtask drill replicas"]
async fn started_together_they_make_one_root() -> Result<()> {
    empty_site("races", async |site| {
        site.install_for_production(&environment::chart(), &json!({"site": {"enabled": false}})).await?;
        figures("Two replicas started together on an empty namespace", async |figures| {
            // fails at the first try that leaves two roots, or a version of a Secret that must not be
            let roots = root_race::run(site, TRIES).await?;
            figures.exactly(format_args!("tries of {TRIES} that made exactly one root"), TRIES, roots.len());
            Ok(())
        })
        .await
    })
    .await
}
