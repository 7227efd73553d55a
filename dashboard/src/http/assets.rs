//! Scripts, style and texts: inside the binary, served under the hash of them all, and so cached for ever.

use std::fmt::Write as _;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// Path below `assets/` and content.
type Asset = (&'static str, &'static [u8]);

macro_rules! embed {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_bytes!(concat!("../../assets/", $path)))),*]
    };
}

/// Every file under `assets/` but the page itself.
pub(super) static ASSETS: &[Asset] = &embed![
    "app.js",
    "audit.js",
    "chart.js",
    "dom.js",
    "events.js",
    "format.js",
    "hub.js",
    "i18n.js",
    "i18n/en.json",
    "i18n/zh-TW.json",
    "icon.svg",
    "icons.js",
    "model.js",
    "parts.js",
    "screens/audit.js",
    "screens/certificates.js",
    "screens/device.js",
    "screens/devices.js",
    "screens/log.js",
    "screens/overview.js",
    "screens/rotation.js",
    "spark.js",
    "store.js",
    "stream.js",
    "style.css",
    "table.js",
    "topics.js",
    "vendor/uPlot.css",
    "vendor/uPlot.js",
    "worker.js",
];

/// Relative imports stay below it, so one hash names them all: a change to any file is a new address for every file.
static HASH: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = Sha256::new();
    for (path, content) in ASSETS {
        hasher.update(path);
        hasher.update(content.len().to_be_bytes());
        hasher.update(content);
    }
    hasher.finalize().iter().take(8).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
});

/// The hash of them all.
pub(super) fn hash() -> &'static str {
    &HASH
}

/// Where the assets are now, without a slash at the end.
pub(super) fn base() -> String {
    format!("/assets/{}", hash())
}

/// `GET /assets/{hash}/{*path}`
pub(super) async fn asset(Path((hash, path)): Path<(String, String)>) -> Response {
    let found = ASSETS.iter().find(|(name, _)| *name == path).filter(|_| hash == *HASH);
    let Some((name, content)) = found else {
        return (StatusCode::NOT_FOUND, "No such asset; reload the page.\n").into_response();
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    (headers, *content).into_response()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json") => "application/json",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn every_file_is_embedded() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets");
        let mut on_disk = BTreeSet::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path: PathBuf = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    on_disk.insert(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        on_disk.remove("index.html");
        on_disk.remove("vendor/LICENSE.uPlot");
        assert_eq!(on_disk, ASSETS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn every_asset_has_a_type_that_browsers_accept() {
        for (name, _) in ASSETS {
            assert_ne!(content_type(name), "application/octet-stream", "{name}");
        }
    }

    #[test]
    fn no_asset_loads_anything_from_elsewhere() {
        for (name, content) in ASSETS.iter().filter(|(name, _)| !name.starts_with("vendor/")) {
            let text = std::str::from_utf8(content).unwrap().replace("http://www.w3.org/2000/svg", "");
            for needle in ["http://", "https://", "innerHTML", "outerHTML", "insertAdjacentHTML", "eval("] {
                assert!(!text.contains(needle), "{name} contains {needle}");
            }
        }
    }
}
