//! CRLs and roots over HTTP.

use axum::body::Body;
use axum::http::{Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use operator::publication::Publication;
use pki::{Certificate, Crl};
use tower::ServiceExt as _;

use crate::support::Site;
use crate::support::resources::root;

async fn get(site: &Site, only: Option<&str>, path: &str) -> (StatusCode, String, Vec<u8>) {
    let routes = Publication::new(site.server.client(), only.map(str::to_owned)).routes();
    let answer = routes.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    let kind = answer.headers().get(CONTENT_TYPE).map(|kind| kind.to_str().unwrap().to_owned());
    let status = answer.status();
    (status, kind.unwrap_or_default(), answer.into_body().collect().await.unwrap().to_bytes().to_vec())
}

#[tokio::test]
async fn a_roots_crl_and_certificate_are_published_and_nothing_else_is() {
    let site = Site::new();
    site.server.put(&root("root-ca"));
    site.operator().settle().await;
    let (status, kind, pem) = get(&site, None, "/roots/plant/root-ca.pem").await;
    assert_eq!((status, &*kind), (StatusCode::OK, "application/x-pem-file"));
    let certificate = Certificate::from_pem(&String::from_utf8(pem).unwrap()).unwrap();
    for file in ["root-ca.crl", "root-ca.g1.crl"] {
        let (status, kind, der) = get(&site, Some("plant"), &format!("/crl/plant/{file}")).await;
        assert_eq!((status, &*kind), (StatusCode::OK, "application/pkix-crl"), "{file}");
        Crl::from_der(der).unwrap().verify(&certificate).unwrap();
    }
    for path in [
        "/crl/plant/root-ca.g2.crl",
        "/crl/plant/root-ca",
        "/crl/plant/other.crl",
        "/roots/plant/root-ca.crl",
        "/roots/elsewhere/root-ca.pem",
    ] {
        assert_eq!(get(&site, Some("plant"), path).await.0, StatusCode::NOT_FOUND, "{path}");
    }

    // What somebody else has put there under that name is not ours to publish.
    site.server.edit::<ConfigMap>("root-ca-trust", |map| map["metadata"]["labels"] = serde_json::json!({}));
    assert_eq!(get(&site, None, "/roots/plant/root-ca.pem").await.0, StatusCode::NOT_FOUND);
}
