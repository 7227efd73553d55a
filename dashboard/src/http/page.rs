//! The one page, in the language and theme that the browser asks for.

use axum::http::header::{ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_TYPE, COOKIE, VARY};
use axum::http::{HeaderMap, HeaderName, Uri};
use axum::response::{IntoResponse, Response};

use super::assets;

const PAGE: &str = include_str!("../../assets/index.html");

/// What the switch can choose beside `auto`, which follows the system.
const THEMES: [&str; 2] = ["light", "dark"];

/// What the page can be read in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Language {
    English,
    TraditionalChinese,
}

/// `GET /` and every other screen: which one it is, the script sees from the address.
pub(super) async fn page(uri: Uri, headers: HeaderMap) -> Response {
    let language = language(&headers);
    let theme = cookie(&headers, "theme").filter(|theme| THEMES.contains(theme)).unwrap_or("auto");
    let page = PAGE
        .replace("{{language}}", language.tag())
        .replace("{{theme}}", theme)
        .replace("{{screen}}", &preloads(uri.path()))
        .replace("{{assets}}", &assets::base())
        .replace("{{hash}}", assets::hash())
        .replace("{{noscript}}", language.noscript());
    let headers: [(HeaderName, &str); 3] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        (VARY, "Accept-Language, Cookie"),
    ];
    (headers, page).into_response()
}

/// The modules of the screen at `path`, beside those that every screen needs: without being named here, the browser
/// would learn of them one after the other.
fn modules(path: &str) -> &'static [&'static str] {
    match path {
        "/devices" => &["screens/devices.js", "spark.js", "table.js"],
        "/certificates" => &["screens/certificates.js", "table.js"],
        "/log" => &["screens/log.js", "topics.js"],
        "/audit" => &["screens/audit.js"],
        "/rotation" => &["screens/rotation.js", "events.js"],
        path if path.starts_with("/devices/") => {
            &["screens/device.js", "chart.js", "events.js", "vendor/uPlot.js"]
        }
        _ => &["screens/overview.js", "spark.js"],
    }
}

fn preloads(path: &str) -> String {
    let link = |module: &&str| format!(r#"<link rel="modulepreload" href="{{{{assets}}}}/{module}" />"#);
    modules(path).iter().map(link).collect::<Vec<_>>().join("\n    ")
}

/// The switch on the page leaves a cookie; without one the browser's own list decides.
fn language(headers: &HeaderMap) -> Language {
    if let Some(chosen) = cookie(headers, "language").and_then(Language::of_tag) {
        return chosen;
    }
    let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut ranked: Vec<(Language, f32)> = accepted
        .split(',')
        .filter_map(|item| {
            let (tag, quality) = item.split_once(';').unwrap_or((item, "q=1"));
            let quality: f32 = quality.trim().strip_prefix("q=")?.parse().ok()?;
            Some((Language::of_tag(tag.trim())?, quality)).filter(|(_, quality)| *quality > 0.0)
        })
        .collect();
    // Stable: of equals, the first one listed.
    ranked.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    ranked.first().map_or(Language::English, |(language, _)| *language)
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

impl Language {
    /// Every Chinese reader gets the Chinese there is; `*` and the rest do not decide anything.
    fn of_tag(tag: &str) -> Option<Self> {
        match tag.split('-').next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "en" => Some(Self::English),
            "zh" => Some(Self::TraditionalChinese),
            _ => None,
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::TraditionalChinese => "zh-TW",
        }
    }

    fn noscript(self) -> &'static str {
        match self {
            Self::English => "This page is drawn by a script. The same data as JSON: /api/v1/state",
            Self::TraditionalChinese => {
                "此頁面需要 JavaScript 才能顯示。同樣的資料以 JSON 提供：/api/v1/state"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What `file` imports at once, and what that imports.
    fn imports(file: &str, found: &mut BTreeSet<String>) {
        let (_, content) = assets::ASSETS.iter().find(|(name, _)| *name == file).expect(file);
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        for import in std::str::from_utf8(content).unwrap().split(" from '").skip(1) {
            let path = import.split('\'').next().unwrap();
            let path = match (path.strip_prefix("../"), path.strip_prefix("./")) {
                (Some(above), _) => above.to_owned(),
                (_, Some(beside)) if folder.is_empty() => beside.to_owned(),
                (_, Some(beside)) => format!("{folder}/{beside}"),
                _ => continue,
            };
            if found.insert(path.clone()) {
                imports(&path, found);
            }
        }
    }

    #[test]
    fn the_browser_is_told_of_every_module_of_a_screen_at_once() {
        for path in ["/", "/devices", "/devices/device001", "/certificates", "/log", "/audit", "/rotation"] {
            let page = PAGE.replace("{{screen}}", &preloads(path));
            let told: BTreeSet<String> = page
                .split("<link rel=\"modulepreload\" href=\"{{assets}}/")
                .skip(1)
                .map(|link| link.split('"').next().unwrap().to_owned())
                .collect();
            let mut needed = BTreeSet::from([modules(path)[0].to_owned()]);
            imports("app.js", &mut needed);
            imports(modules(path)[0], &mut needed);
            assert_eq!(told, needed, "{path}");
        }
    }

    fn of(accept: &str, cookies: &str) -> &'static str {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT_LANGUAGE, accept.parse().unwrap());
        headers.insert(COOKIE, cookies.parse().unwrap());
        language(&headers).tag()
    }

    #[test]
    fn the_browser_decides_the_language() {
        assert_eq!(of("zh-TW,zh;q=0.9,en;q=0.8", ""), "zh-TW");
        assert_eq!(of("en-GB,zh-TW;q=0.9", ""), "en");
        assert_eq!(of("en;q=0.3, zh-Hant;q=0.7", ""), "zh-TW");
        assert_eq!(of("de-DE,de;q=0.9,zh;q=0.5", ""), "zh-TW");
        assert_eq!(of("de-DE", ""), "en");
        assert_eq!(of("zh;q=0, *", ""), "en");
        assert_eq!(of(";;q=x,,", ""), "en");
    }

    #[test]
    fn the_switch_wins_over_the_browser() {
        assert_eq!(of("zh-TW", "theme=dark; language=en"), "en");
        assert_eq!(of("en", "language=zh-TW"), "zh-TW");
        assert_eq!(of("en", "language=<script>"), "en");
    }
}
