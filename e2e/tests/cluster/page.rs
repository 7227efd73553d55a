//! The page that is there after an installation.

use anyhow::{Context as _, Result, ensure};
use e2e::{default_site, environment, page::Page, patience, site::PATIENCE};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn the_page_answers_on_localhost_in_the_language_of_the_browser() -> Result<()> {
    default_site("languages", async |_| {
        let page = Page { address: environment::dashboard() };
        for (asked, given) in [("en-GB,en;q=0.9", "en"), ("zh-TW,zh;q=0.9,en;q=0.8", "zh-TW")] {
            let answer = page.get("/", asked).await?;
            ensure!(answer.status() == 200, "{answer:?}");
            ensure!(answer.body().contains(&format!("<html lang=\"{given}\"")), "{}", answer.body());
        }
        // what the script puts on the page is in a file for each language
        let document = page.get("/", "en").await?.into_body();
        let assets = document.split('"').find(|part| part.starts_with("/assets/")).context("no assets")?;
        let assets = assets.split('/').take(3).collect::<Vec<_>>().join("/");
        for (language, word) in [("en", "Devices"), ("zh-TW", "裝置")] {
            let texts = page.get(&format!("{assets}/i18n/{language}.json"), "").await?;
            ensure!(texts.status() == 200 && texts.body().contains(word), "{texts:?}");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a cluster: cargo xtask test e2e"]
async fn the_page_shows_both_temperatures_moving() -> Result<()> {
    default_site("moving", async |_| {
        let page = Page { address: environment::dashboard() };
        for device in ["device001", "device002"] {
            let of_device = async || Ok(page.latest().await?.remove(device));
            let first =
                patience::eventually(format_args!("{device} is on the page"), PATIENCE, of_device).await?;
            patience::eventually(format_args!("{device}: another temperature"), PATIENCE, async || {
                let latest = of_device().await?;
                Ok(latest.filter(|latest| {
                    latest.measured_at > first.measured_at && (latest.celsius - first.celsius).abs() > 1e-4
                }))
            })
            .await?;
        }
        Ok(())
    })
    .await
}
