//! What a device owns, and what happens when somebody takes it away.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use api::IotDevice;
use e2e::{site::Reported as _, *};
use k8s_openapi::api::core::v1::Secret;
use kube::{ResourceExt as _, api::DeleteParams};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn a_deleted_secret_is_back_within_five_seconds() -> Result<()> {
    site("secret-back", async |site| {
        site.apply::<api::RootCA>("root-ca", json!({"subject": {"commonName": "e2e"}})).await?;
        site.apply::<IotDevice>("door", json!({})).await?;
        let device: IotDevice = site.ready("door").await?;
        ensure!(device.is_ready());
        let before = site.secret("iotdevice-door").await?;
        let from = Instant::now();
        site.api::<Secret>().delete("iotdevice-door", &DeleteParams::default()).await?;
        let back = site
            .wait("iotdevice-door", Duration::from_secs(5), "back", |secret: &Secret| {
                secret.uid() != before.uid()
            })
            .await?;
        environment::measured("a deleted Secret is back after", format_args!("{:?}", from.elapsed()))?;
        ensure!(back.data != before.data, "the lost key is not used again");
        Ok(())
    })
    .await
}
