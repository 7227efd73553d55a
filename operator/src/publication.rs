//! CRLs and roots over HTTP, for devices and others that are not in the cluster: `/crl/<namespace>/<root>.crl` and `…/<root>.g<generation>.crl`
//! (RFC 5280, section 5, as DER, served as RFC 2585, section 4.2, says), and `/roots/<namespace>/<root>.pem` (every trusted root).
//!
//! Nothing here is secret: all of it comes from the trust bundle's `ConfigMap`, which every replica may read. A standby answers as
//! the leader does, and a flood of requests costs the API server one request for each root in [`FRESH`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::{RootCA, names};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, Resource as _, ResourceExt as _};

/// How long an answer is given again without asking the API server.
const FRESH: Duration = Duration::from_secs(5);
/// How many roots are remembered at once. Whoever asks for names that do not exist fills no more than this.
const CAPACITY: usize = 1_000;

/// By namespace and name of the root: when it was asked for, and what there was.
type Known = HashMap<(String, String), (Instant, Option<Arc<ConfigMap>>)>;

/// What is published, and where it comes from.
#[derive(Clone)]
pub struct Publication {
    client: Client,
    namespace: Option<String>,
    known: Arc<Mutex<Known>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

// === impl Publication ===

impl Publication {
    /// Of the roots in `namespace`, or in all of them.
    pub fn new(client: Client, namespace: Option<String>) -> Self {
        Self { client, namespace, known: Arc::default(), turn: Arc::default() }
    }

    /// The routes.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/crl/{namespace}/{file}", get(crl))
            .route("/roots/{namespace}/{file}", get(roots))
            .with_state(self)
    }

    /// The trust bundle of a root, at most [`FRESH`] old; none: there is no such root.
    async fn bundle(&self, namespace: &str, root: &str) -> Result<Option<Arc<ConfigMap>>, kube::Error> {
        // They become parts of an address at the API server, where this operator may read more than trust bundles.
        if !is_name(namespace)
            || !is_name(root)
            || self.namespace.as_deref().is_some_and(|only| only != namespace)
        {
            return Ok(None);
        }
        let key = (namespace.to_owned(), root.to_owned());
        let remembered = || {
            let known = self.lock();
            known.get(&key).filter(|(at, _)| at.elapsed() < FRESH).map(|(_, found)| found.clone())
        };
        if let Some(known) = remembered() {
            return Ok(known);
        }
        // One at a time: a flood of made-up names takes nothing from what the operator itself asks.
        let _turn = self.turn.lock().await;
        if let Some(known) = remembered() {
            return Ok(known);
        }
        let now = Instant::now();
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), namespace);
        let found = api.get_opt(&names::trust(root)).await?.filter(|found| is_of(found, root)).map(Arc::new);
        let mut known = self.lock();
        if known.len() >= CAPACITY {
            known.retain(|_, (at, _)| at.elapsed() < FRESH);
        }
        if known.len() < CAPACITY {
            known.insert(key, (now, found.clone()));
        }
        Ok(found)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an object can be called so (RFC 1123): nothing in it has a meaning in an address.
fn is_name(text: &str) -> bool {
    let is_part = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"-.".contains(&octet);
    let is_end = |octet: Option<u8>| octet.is_some_and(|octet| octet.is_ascii_alphanumeric());
    text.len() <= 253
        && text.bytes().all(is_part)
        && is_end(text.bytes().next())
        && is_end(text.bytes().last())
}

/// Whether the operator made it for the root `name`.
fn is_of(found: &ConfigMap, name: &str) -> bool {
    let label = |key| found.labels().get(key).map(String::as_str);
    label(names::LABEL_MANAGED_BY) == Some(names::MANAGER)
        && label(names::LABEL_KIND) == Some(&*RootCA::kind(&()))
        && label(names::LABEL_NAME) == Some(name)
}

async fn crl(
    State(publication): State<Publication>,
    Path((namespace, file)): Path<(String, String)>,
) -> Response {
    let Some(name) = file.strip_suffix(".crl") else { return not_found("a CRL is called <root>.crl") };
    let of_generation = name.rsplit_once(".g").and_then(|(root, number)| Some((root, number.parse().ok()?)));
    let (root, generation) = of_generation.map_or((name, None), |(root, number)| (root, Some(number)));
    let bundle = match publication.bundle(&namespace, root).await {
        Ok(Some(bundle)) => bundle,
        Ok(None) => return not_found("no such RootCA, or it has never been ready"),
        Err(error) => return unavailable(&error),
    };
    let crls = bundle.binary_data.as_ref();
    let latest = || crls?.keys().filter_map(|key| names::generation_of_crl(key)).max();
    let found = generation.or_else(latest).and_then(|number| crls?.get(&names::crl(number)));
    match found {
        Some(der) => published("application/pkix-crl", der.0.clone()),
        None => not_found("this generation of the root is not trusted any more, or not yet"),
    }
}

async fn roots(
    State(publication): State<Publication>,
    Path((namespace, file)): Path<(String, String)>,
) -> Response {
    let Some(root) = file.strip_suffix(".pem") else { return not_found("roots are called <root>.pem") };
    match publication.bundle(&namespace, root).await {
        Ok(Some(bundle)) => match bundle.data.as_ref().and_then(|data| data.get(names::TRUST_KEY)) {
            Some(pem) => published("application/x-pem-file", pem.clone().into_bytes()),
            None => not_found("no root is trusted yet"),
        },
        Ok(None) => not_found("no such RootCA, or it has never been ready"),
        Err(error) => unavailable(&error),
    }
}

/// May be kept for a minute: shorter than the shortest interval of a CRL, long enough that a fleet asks a cache in between.
fn published(kind: &'static str, body: Vec<u8>) -> Response {
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=60")];
    (headers, body).into_response()
}

fn not_found(why: &str) -> Response {
    (StatusCode::NOT_FOUND, format!("{why}\n")).into_response()
}

fn unavailable(error: &kube::Error) -> Response {
    tracing::warn!(%error, "a CRL or a root was asked for, but the API server does not answer");
    let headers = [(header::RETRY_AFTER, "5")];
    (StatusCode::SERVICE_UNAVAILABLE, headers, "the API server does not answer\n").into_response()
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn nothing_but_names_gets_into_an_address() {
        for name in ["default", "root-ca", "a.b", "0"] {
            assert!(is_name(name), "{name}");
        }
        for other in [
            "",
            ".",
            "..",
            "a/",
            "plant/secrets/rootca-root-ca?",
            "a%2fb",
            "A",
            "-a",
            "a-",
            "a b",
            "\u{e4}",
            &"a".repeat(254),
        ] {
            assert!(!is_name(other), "{other}");
        }
    }
}
