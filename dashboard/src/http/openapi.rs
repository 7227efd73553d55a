//! The HTTP API for programs: an `OpenAPI` 3.1 document, whose schemas come from the types that are sent.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::state::wire::{Changes, EventList, History, Snapshot};

/// The document as text.
pub(super) static DOCUMENT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));

fn document() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .for_serialize();
    let mut schemas = settings.into_generator();
    let device = parameter(
        "name",
        "Name of the device: the common name of its certificate.",
        &json!({ "type": "string" }),
        "device001",
    );
    let kind = parameter(
        "kind",
        "Kind of the resource.",
        &json!({ "enum": ["RootCA", "MqttBroker", "Dashboard", "IotDevice"] }),
        "IotDevice",
    );
    let name = parameter("name", "Name of the resource.", &json!({ "type": "string" }), "device001");
    let window = json!({
        "name": "window", "in": "query", "description": "How far back; readings as they came, or means of 15 s or 5 min.",
        "schema": { "enum": ["5m", "1h", "24h"], "default": "5m" },
    });
    let after = json!({
        "name": "after", "in": "query", "description": "`event` of the state that the changes are to follow; `Last-Event-ID` wins over it.",
        "schema": { "type": "string" },
    });
    let paths = json!({
        "/api/v1/state": path("state", "Everything at one moment", &[], &json!({
            "200": body::<Snapshot<'static>>(&mut schemas, "All that the page shows."),
        })),
        "/api/v1/stream": path("stream", "What changes, as it does", &[after], &json!({
            "200": {
                "description": "Server-sent events: `changes` with JSON of the schema `Changes`, at most four a second; `reset` when what \
                    follows `after` is not kept any more, and the state has to be loaded anew.",
                "content": { "text/event-stream": { "schema": { "type": "string" } } },
            },
            "503": text("Too many streams are open."),
        })),
        "/api/v1/devices/{name}/history": path("history", "Temperatures of one device", &[device, window], &json!({
            "200": body::<History>(&mut schemas, "The points of a chart."),
            "400": text("There is no such window."),
            "404": text("No device of this name is registered or was heard."),
        })),
        "/api/v1/events/{kind}/{name}": path("events", "What happened to a resource", &[kind, name], &json!({
            "200": body::<EventList<'static>>(&mut schemas, "The newest events, the newest last."),
            "404": text("No resource of this kind and name is known."),
        })),
        "/api/v1/certificates.csv": path("certificates", "Every certificate, for a spreadsheet", &[], &json!({
            "200": {
                "description": "RFC 4180, one line for each certificate, roots first.",
                "content": { "text/csv": { "schema": { "type": "string" } } },
            },
        })),
        "/api/v1/openapi.json": path("openapi", "This document", &[], &json!({
            "200": { "description": "OpenAPI 3.1.", "content": { "application/json": { "schema": { "type": "object" } } } },
        })),
    });
    // What the stream carries stands in no answer's schema, but whoever follows it needs it.
    schemas.subschema_for::<Changes<'static>>();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ca-iot dashboard",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A namespace's fleet and its certificates. Reading only. Moments are milliseconds since 1970, lengths of time \
                milliseconds. Every answer has the status 421 under a host name that is not served.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": schemas.take_definitions(true) },
    })
}

/// One path: everything here is read by GET.
fn path(id: &str, summary: &str, parameters: &[Value], answers: &Value) -> Value {
    json!({ "get": { "operationId": id, "summary": summary, "parameters": parameters, "responses": answers } })
}

/// The example names what every site has that was made by hand, so that tests made from the document meet it.
fn parameter(name: &str, description: &str, schema: &Value, example: &str) -> Value {
    json!({
        "name": name, "in": "path", "required": true, "description": description, "schema": schema, "example": example,
    })
}

fn body<T: JsonSchema>(schemas: &mut SchemaGenerator, description: &str) -> Value {
    let schema = schemas.subschema_for::<T>();
    json!({ "description": description, "content": { "application/json": { "schema": schema } } })
}

fn text(description: &str) -> Value {
    let content = Map::from_iter([("text/plain".to_owned(), json!({ "schema": { "type": "string" } }))]);
    json!({ "description": description, "content": content })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_OPENAPI=1 cargo test -p ca-iot-dashboard openapi` writes it.
    #[test]
    fn the_file_is_what_is_served() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::write(file, &*DOCUMENT).unwrap();
        }
        let written = std::fs::read_to_string(file).unwrap();
        assert!(
            written == *DOCUMENT,
            "openapi.json is out of date: UPDATE_OPENAPI=1 cargo test -p ca-iot-dashboard openapi"
        );
    }
}
