//! The one page, in the language and theme that the browser asks for.

use axum::http::header::{ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_TYPE, COOKIE, VARY};
use axum::http::{HeaderMap, HeaderName};
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
pub(super) async fn page(headers: HeaderMap) -> Response {
    let language = language(&headers);
    let theme = cookie(&headers, "theme").filter(|theme| THEMES.contains(theme)).unwrap_or("auto");
    let page = PAGE
        .replace("{{language}}", language.tag())
        .replace("{{theme}}", theme)
        .replace("{{assets}}", &assets::base())
        .replace("{{noscript}}", language.noscript());
    let headers: [(HeaderName, &str); 3] = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-cache"),
        (VARY, "Accept-Language, Cookie"),
    ];
    (headers, page).into_response()
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
    use super::*;

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
