//! `cargo xtask bench`: see [`e2e::bench`].

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    e2e::bench::run(e2e::bench::Plan::from_environment()?).await
}
