//! Before every request the host name is checked; after it come the headers that keep the page to itself.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, HOST, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Site;

/// Nothing from elsewhere, nothing inline, nothing framed; strings never become markup, and one script becomes a worker
/// (Trusted Types).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types ca-iot";

const HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The middleware around everything.
pub(super) async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let mut response = if is_ours(host, &site.hosts) {
        next.run(request).await
    } else {
        let text =
            "This host name is not served here. To serve it, start the dashboard with --host <name>.\n";
        (StatusCode::MISDIRECTED_REQUEST, text).into_response()
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Whether a page under this `Host` can only have been asked for on purpose. DNS rebinding needs a name in the
/// public DNS that the attacker controls: addresses, single labels (`localhost`, a Service's name) and cluster names
/// (`….svc`, `….svc.cluster.local`) are none. Other names, such as an Ingress's, have to be listed.
fn is_ours(host: &str, listed: &[String]) -> bool {
    let name = without_port(host).trim_end_matches('.').to_ascii_lowercase();
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    if literal.parse::<IpAddr>().is_ok() {
        return true;
    }
    let sane = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    sane && (!name.contains('.')
        || [".localhost", ".svc", ".svc.cluster.local"].iter().any(|suffix| name.ends_with(suffix))
        || listed.iter().any(|host| host.eq_ignore_ascii_case(&name)))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_opens_under_every_name_it_has_in_and_near_the_cluster() {
        for host in [
            "localhost",
            "localhost:5000",
            "LOCALHOST:5000",
            "127.0.0.1:5000",
            "10.244.0.7:5000",
            "[::1]:5000",
            "[fd00::1]",
            "dashboard-dashboard:5000",
            "dashboard-dashboard.default.svc",
            "dashboard-dashboard.default.svc.cluster.local.:5000",
            "fleet.example.org",
        ] {
            assert!(is_ours(host, &["fleet.example.org".into()]), "{host}");
        }
    }

    #[test]
    fn a_name_that_an_attacker_can_point_here_is_refused() {
        for host in [
            "evil.example",
            "localhost.evil.example:5000",
            "svc.evil.example",
            "",
            "a b",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_ours(host, &[]), "{host}");
        }
    }
}
