//! An API server in memory, as strict as the real one where the operator could get it wrong: names taken, uid and
//! version preconditions, who owns which field, one controller for each object, the immutable type of a Secret. It writes down every
//! request, collects orphans as soon as their owner is gone, and fails when told to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use axum::http;
use k8s_openapi::ByteString;
use kube::client::Body;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Resources whose generation rises with every change beside metadata and status.
const WITH_GENERATION: [&str; 5] = ["rootcas", "iotdevices", "mqttbrokers", "dashboards", "deployments"];
/// Resources whose status is written through a subresource only.
const WITH_STATUS: [&str; 6] = ["rootcas", "iotdevices", "mqttbrokers", "dashboards", "deployments", "pods"];

/// An API server in memory. Clones speak of the same one.
#[derive(Clone, Default)]
pub(crate) struct ApiServer {
    state: Arc<Mutex<State>>,
}

/// A request as it was received.
#[derive(Clone, PartialEq)]
pub(crate) struct Request {
    /// `get`, `list`, `create`, `apply`, `patch`, `delete`.
    pub(crate) verb: &'static str,
    /// As in the path: `secrets`, `iotdevices/status`.
    pub(crate) resource: String,
    /// Empty for lists and new objects.
    pub(crate) name: String,
    /// What was sent.
    pub(crate) body: Value,
    /// The HTTP status; none when the answer was lost.
    pub(crate) code: Option<u16>,
}

/// What happens to a write instead of what should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing; the write is done.
    None,
    /// An internal error; nothing is stored.
    Internal,
    /// Somebody else wrote first; nothing is stored.
    Conflict,
    /// It never arrives.
    Unreachable,
    /// It is stored, and the answer is lost.
    AnswerLost,
    /// It is stored, and nothing that follows arrives any more.
    CrashAfter,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Path, Object>,
    version: u64,
    history: Vec<Request>,
    /// How much of it was taken out.
    taken: usize,
    /// For the writes to come, one each.
    faults: VecDeque<Fault>,
    crashed: bool,
}

/// What is stored, and which fields came by which way: what one way brought, only that way takes away.
#[derive(Clone, Default)]
struct Object {
    value: Value,
    /// By server-side apply, to the object and to its status.
    applied: BTreeMap<bool, Value>,
    /// By create, patch and edit.
    updated: Value,
}

/// Resource, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Path {
    resource: String,
    namespace: String,
    name: String,
}

type Answer = Result<Value, (u16, &'static str, String)>;

// === impl Request ===

impl Request {
    /// Whether it is to change anything.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self.verb, "get" | "list")
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.body["metadata"]["name"].as_str().unwrap_or(&self.name);
        write!(f, "{} {} {name}", self.verb, self.resource)
    }
}

/// Without the body: it may hold a key.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}: {:?}", self.code)
    }
}

// === impl ApiServer ===

impl ApiServer {
    /// Another server with the same contents, to which nothing has happened yet.
    pub(crate) fn copy(&self) -> Self {
        let State { objects, version, .. } = &*self.state.lock().unwrap();
        let state = State { objects: objects.clone(), version: *version, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> Client {
        let state = Arc::clone(&self.state);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let state = Arc::clone(&state);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? };
                let mut state = state.lock().unwrap();
                state.serve(&head, body).ok_or_else(|| tower::BoxError::from("connection reset"))
            }
        });
        Client::new(service, "default")
    }

    /// Writes an object like a user with `kubectl`: creates it, or changes everything but its status.
    pub(crate) fn put<K: Resource<DynamicType = ()> + Serialize>(&self, object: &K) {
        let mut value = serde_json::to_value(object).unwrap();
        value["apiVersion"] = K::api_version(&()).into();
        value["kind"] = K::kind(&()).into();
        let path = path_of::<K>(object.meta().name.as_deref().unwrap());
        let mut state = self.state.lock().unwrap();
        if state.objects.contains_key(&path) {
            state.edit(&path, |old| {
                for part in ["spec", "data", "type"] {
                    if let Some(new) = value.get(part) {
                        old[part] = new.clone();
                    }
                }
            });
        } else {
            state.create(&path, value, "kubectl").unwrap();
        }
    }

    /// Changes an object like a user with `kubectl edit`.
    pub(crate) fn edit<K: Resource<DynamicType = ()>>(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.state.lock().unwrap().edit(&path_of::<K>(name), change);
    }

    /// Deletes an object, and what it owns.
    pub(crate) fn delete<K: Resource<DynamicType = ()>>(&self, name: &str) {
        self.state.lock().unwrap().delete(&path_of::<K>(name)).unwrap();
    }

    /// An object, if it is there.
    pub(crate) fn get<K: Resource<DynamicType = ()> + DeserializeOwned>(&self, name: &str) -> Option<K> {
        let state = self.state.lock().unwrap();
        state.objects.get(&path_of::<K>(name)).map(|o| serde_json::from_value(o.value.clone()).unwrap())
    }

    /// Every object of a kind, by name.
    pub(crate) fn all<K: Resource<DynamicType = ()> + DeserializeOwned>(&self) -> Vec<K> {
        let state = self.state.lock().unwrap();
        let here = state.objects.iter().filter(|(path, _)| path.resource == K::plural(&()));
        here.map(|(_, object)| serde_json::from_value(object.value.clone()).unwrap()).collect()
    }

    /// Everything that is stored but Events, byte for byte.
    pub(crate) fn contents(&self) -> Vec<Value> {
        let state = self.state.lock().unwrap();
        let here = state.objects.iter().filter(|(path, _)| path.resource != "events");
        here.map(|(_, object)| object.value.clone()).collect()
    }

    /// How many writes there were since the beginning, those aside that were refused because of what is there.
    pub(crate) fn count_writes(&self) -> usize {
        let state = self.state.lock().unwrap();
        state.history.iter().filter(|request| request.writes() && request.code != Some(409)).count()
    }

    /// What tells private keys from other text, of every key that was ever in a Secret; and all requests about other things.
    pub(crate) fn keys_and_other_requests(&self) -> (BTreeSet<String>, Vec<String>) {
        let state = self.state.lock().unwrap();
        let (secrets, others): (Vec<_>, Vec<_>) =
            state.history.iter().partition(|request| request.resource == "secrets");
        let stored = state.objects.iter().filter(|(path, _)| path.resource == "secrets");
        let bodies =
            secrets.iter().map(|request| &request.body).chain(stored.map(|(_, object)| &object.value));
        let keys = bodies.flat_map(|body| {
            let data: BTreeMap<String, ByteString> =
                serde_json::from_value(body["data"].clone()).unwrap_or_default();
            let keys = data.into_iter().filter(|(name, _)| name.strip_suffix(".key").is_some());
            keys.flat_map(|(name, key)| {
                let pem = String::from_utf8_lossy(&key.0).lines().nth(1).map(str::to_owned);
                let encoded =
                    body["data"][name].as_str().and_then(|text| text.get(60..100)).map(str::to_owned);
                pem.into_iter().chain(encoded)
            })
            .collect::<Vec<_>>()
        });
        (keys.collect(), others.iter().map(|request| request.body.to_string()).collect())
    }

    /// Forgets all requests.
    pub(crate) fn take_history(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().history)
    }

    /// Takes out the requests received since the last time.
    pub(crate) fn take_requests(&self) -> Vec<Request> {
        let mut state = self.state.lock().unwrap();
        let so_far = state.history.len();
        let since = std::mem::replace(&mut state.taken, so_far);
        state.history.get(since..).unwrap_or_default().to_vec()
    }

    /// What happens to the next writes, one each.
    pub(crate) fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().unwrap().faults.extend(faults);
    }

    /// Whether the crash has happened.
    pub(crate) fn crashed(&self) -> bool {
        self.state.lock().unwrap().crashed
    }

    /// Everything works again.
    pub(crate) fn recover(&self) {
        let mut state = self.state.lock().unwrap();
        state.faults.clear();
        state.crashed = false;
    }
}

// === impl State ===

impl State {
    /// Answers a request; none when nothing comes back.
    fn serve(&mut self, head: &http::request::Parts, body: Value) -> Option<http::Response<Body>> {
        let (path, status) = parse(head.uri.path());
        let verb = verb(head, &path);
        let fault = if self.crashed {
            Fault::Unreachable
        } else if !matches!(verb, "get" | "list") {
            self.faults.pop_front().unwrap_or(Fault::None)
        } else {
            Fault::None
        };
        let resource = if status { format!("{}/status", path.resource) } else { path.resource.clone() };
        let mut request = Request { verb, resource, name: path.name.clone(), body: body.clone(), code: None };
        let answer = match fault {
            Fault::Unreachable => None,
            Fault::Internal => Some(Err((500, "InternalError", "etcdserver: no leader".to_owned()))),
            Fault::Conflict => Some(Err((409, "Conflict", "the object has been modified".to_owned()))),
            Fault::None => Some(self.answer(verb, &path, status, head, body)),
            Fault::AnswerLost | Fault::CrashAfter => {
                self.crashed = fault == Fault::CrashAfter;
                let _ = self.answer(verb, &path, status, head, body);
                None
            }
        };
        request.code = answer.as_ref().map(|answer| answer.as_ref().map_or_else(|error| error.0, |_| 200));
        self.history.push(request);
        Some(respond(answer?))
    }

    fn answer(
        &mut self,
        verb: &str,
        path: &Path,
        status: bool,
        head: &http::request::Parts,
        body: Value,
    ) -> Answer {
        let accept = head.headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
        let only_metadata = accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
        let shown = |value: Value| if only_metadata { partial(&value) } else { value };
        let manager = query(head, "fieldManager").unwrap_or_else(|| "unknown".to_owned());
        match verb {
            "list" => {
                let selector = query(head, "labelSelector").unwrap_or_default();
                let matching = self.objects.iter().filter(|(at, object)| {
                    at.resource == path.resource
                        && at.namespace == path.namespace
                        && selects(&selector, &object.value)
                });
                let items: Vec<_> = matching.map(|(_, object)| shown(object.value.clone())).collect();
                let version = self.version.to_string();
                Ok(
                    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": version}, "items": items}),
                )
            }
            "get" => self.objects.get(path).map(|object| shown(object.value.clone())).ok_or_else(not_found),
            "create" => self.create(path, body, &manager),
            "apply" => self.apply(path, status, &body, &manager),
            "patch" => {
                let object = self.objects.get(path).ok_or_else(not_found)?;
                let mut merged = object.clone();
                preconditions(&merged.value, &body)?;
                merge(&mut merged.value, &body, Merge::Patch);
                merge(&mut merged.updated, &body, Merge::Patch);
                self.store(path, merged, status).map(shown)
            }
            "delete" => self.delete(path),
            other => Err((405, "MethodNotAllowed", format!("{other} is not supported"))),
        }
    }

    fn create(&mut self, path: &Path, mut value: Value, manager: &str) -> Answer {
        let mut path = path.clone();
        if path.name.is_empty() {
            path.name = match (value["metadata"]["name"].as_str(), value["metadata"]["generateName"].as_str())
            {
                (Some(name), _) => name.to_owned(),
                (None, Some(prefix)) => format!("{prefix}{:05x}", self.version),
                (None, None) => return Err((422, "Invalid", "name or generateName is required".to_owned())),
            };
        }
        if !is_name(&path.name) {
            return Err((422, "Invalid", format!("metadata.name: Invalid value: {:?}", path.name)));
        }
        if self.objects.contains_key(&path) {
            return Err((409, "AlreadyExists", format!("{} {:?} already exists", path.resource, path.name)));
        }
        if WITH_STATUS.contains(&path.resource.as_str()) && path.resource != "pods" {
            value.as_object_mut().unwrap().remove("status");
        }
        let updated = value.clone();
        let metadata = &mut value["metadata"];
        metadata["name"] = path.name.as_str().into();
        metadata["namespace"] = path.namespace.as_str().into();
        metadata["uid"] = format!("00000000-0000-4000-8000-{:012x}", self.version + 1).into();
        metadata["managedFields"] = json!([{"manager": manager, "operation": "Update"}]);
        self.store(&path, Object { value, updated, ..Object::default() }, false)
    }

    /// Server-side apply with force: adds and changes what is sent, takes away what this manager applied before and does not send
    /// any more, unless it came another way too.
    fn apply(&mut self, path: &Path, status: bool, body: &Value, manager: &str) -> Answer {
        let Some(object) = self.objects.get(path) else {
            if status {
                return Err(not_found());
            }
            preconditions(&json!({"metadata": {}}), body)?;
            let mut value = body.clone();
            value["metadata"]["managedFields"] = json!([]);
            let created = self.create(path, value, manager)?;
            if let Some(object) = self.objects.get_mut(path) {
                object.updated = Value::Null;
                object.applied.insert(false, applied_part(body, false));
            }
            return Ok(created);
        };
        let mut object = object.clone();
        preconditions(&object.value, body)?;
        let sent = applied_part(body, status);
        let before = object.applied.insert(status, sent.clone()).unwrap_or_default();
        take_away(&mut object.value, &before, &sent, &object.updated);
        merge(&mut object.value, &sent, Merge::Apply);
        self.store(path, object, status)
    }

    fn edit(&mut self, path: &Path, change: impl FnOnce(&mut Value)) {
        let mut object = self.objects.get(path).cloned().unwrap_or_else(|| panic!("no {path:?}"));
        change(&mut object.value);
        object.updated = object.value.clone();
        // Who writes an object does not write its status with it.
        object.updated.as_object_mut().unwrap().remove("status");
        self.store(path, object, false).unwrap();
    }

    fn delete(&mut self, path: &Path) -> Answer {
        let removed = self.objects.remove(path).ok_or_else(not_found)?.value;
        self.version += 1;
        let uid = removed["metadata"]["uid"].clone();
        let owned =
            self.objects.iter().filter(|(_, object)| owners(&object.value).any(|owner| owner["uid"] == uid));
        let orphans: Vec<_> = owned.map(|(path, _)| path.clone()).collect();
        for orphan in orphans {
            self.delete(&orphan)?;
        }
        Ok(removed)
    }

    /// Checks an object as the real server would, and stores it as a new version if anything is different.
    fn store(&mut self, path: &Path, mut object: Object, status: bool) -> Answer {
        let old = self.objects.get(path).map(|object| object.value.clone());
        let invalid = |problem: &str| {
            Err((422, "Invalid", format!("{} {:?} is invalid: {problem}", path.resource, path.name)))
        };
        if owners(&object.value).filter(|owner| owner["controller"] == true).count() > 1 {
            return invalid("metadata.ownerReferences: Only one reference can have Controller set to true");
        }
        if path.resource == "events" && object.value["note"].as_str().is_none_or(|note| note.len() > 1024) {
            return invalid("note: can have at most 1024 bytes");
        }
        if path.resource == "secrets" {
            if old.as_ref().is_some_and(|old| old["type"] != object.value["type"]) {
                return invalid("type: field is immutable");
            }
            let complete = ["tls.crt", "tls.key"].iter().all(|key| object.value["data"].get(key).is_some());
            if object.value["type"] == "kubernetes.io/tls" && !complete {
                return invalid("data: Required value");
            }
        }
        if old.as_ref() != Some(&object.value) {
            self.version += 1;
            let counts = WITH_GENERATION.contains(&path.resource.as_str());
            let before = old.as_ref().and_then(|old| old["metadata"]["generation"].as_i64()).unwrap_or(0);
            let changed = !status && old.as_ref().is_none_or(|old| old["spec"] != object.value["spec"]);
            let metadata = &mut object.value["metadata"];
            metadata["resourceVersion"] = self.version.to_string().into();
            if counts {
                metadata["generation"] = (before + i64::from(changed)).into();
            }
        }
        let value = object.value.clone();
        self.objects.insert(path.clone(), object);
        Ok(value)
    }
}

// === the wire ===

/// `/api/v1/namespaces/plant/secrets/x` or `/apis/apps/v1/namespaces/plant/deployments/x/status`.
fn parse(path: &str) -> (Path, bool) {
    let mut parts = path.split('/').skip_while(|part| *part != "namespaces").skip(1).map(str::to_owned);
    let namespace = parts.next().unwrap_or_else(|| panic!("{path} is in no namespace"));
    let resource = parts.next().unwrap_or_else(|| panic!("{path} names no resource"));
    let name = parts.next().unwrap_or_default();
    let status = match parts.next().as_deref() {
        None => false,
        Some("status") => true,
        Some(other) => panic!("{other} is not served here"),
    };
    (Path { resource, namespace, name }, status)
}

fn verb(head: &http::request::Parts, path: &Path) -> &'static str {
    let content = head.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    match (head.method.as_str(), content) {
        ("GET", _) if path.name.is_empty() => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PATCH", Some("application/apply-patch+yaml")) => "apply",
        ("PATCH", Some("application/merge-patch+json")) => "patch",
        ("DELETE", _) => "delete",
        (method, content) => panic!("{method} {path:?} with {content:?} is not served here"),
    }
}

fn query(head: &http::request::Parts, key: &str) -> Option<String> {
    let pairs = head.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs.into_iter().find(|(name, _)| *name == key)?.1;
    Some(value.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/"))
}

fn respond(answer: Answer) -> http::Response<Body> {
    let (code, body) = match answer {
        Ok(body) => (200, body),
        Err((code, reason, message)) => (
            code,
            json!({"kind": "Status", "status": "Failure", "reason": reason, "message": message, "code": code}),
        ),
    };
    http::Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
}

fn not_found() -> (u16, &'static str, String) {
    (404, "NotFound", "not found".to_owned())
}

fn partial(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}

fn path_of<K: Resource<DynamicType = ()>>(name: &str) -> Path {
    Path { resource: K::plural(&()).into_owned(), namespace: super::NAMESPACE.into(), name: name.into() }
}

// === objects ===

/// What an apply to the object, or to its status, is about.
fn applied_part(body: &Value, status: bool) -> Value {
    let mut part = body.as_object().cloned().unwrap_or_default();
    part.retain(|name, _| match &**name {
        "status" => status,
        "apiVersion" | "kind" => false,
        _ => !status,
    });
    if let Some(metadata) = part.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|name, _| !matches!(&**name, "uid" | "resourceVersion"));
    }
    part.into()
}

/// DNS-1123: labels of letters, digits and hyphens, with dots between them.
fn is_name(name: &str) -> bool {
    let end = |octet: Option<&u8>| octet.is_some_and(u8::is_ascii_alphanumeric);
    let label = |label: &[u8]| end(label.first()) && end(label.last());
    name.split('.').all(|part| label(part.as_bytes()))
        && name.bytes().all(|octet| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
}

fn owners(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

fn selects(selector: &str, object: &Value) -> bool {
    selector
        .split(',')
        .filter_map(|term| term.split_once('='))
        .all(|(key, value)| object["metadata"]["labels"][key] == value)
}

/// uid and version, where they are given, are those of the object that is meant.
fn preconditions(stored: &Value, sent: &Value) -> Result<(), (u16, &'static str, String)> {
    let other = |part: &str| {
        let wanted = &sent["metadata"][part];
        !wanted.is_null() && *wanted != stored["metadata"][part]
    };
    if other("uid") {
        // As Kubernetes 1.35 has it.
        return Err(match stored["metadata"]["uid"] {
            Value::Null => (409, "Conflict", "uid mismatch, and no existing object was found".to_owned()),
            _ => (422, "Invalid", "metadata.uid: field is immutable".to_owned()),
        });
    }
    if other("resourceVersion") {
        return Err((409, "Conflict", "the object has been modified".to_owned()));
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Merge {
    /// RFC 7386: null takes away, lists are replaced.
    Patch,
    /// Owners are told apart by uid; other lists are replaced.
    Apply,
}

fn merge(into: &mut Value, from: &Value, how: Merge) {
    let Value::Object(from) = from else {
        *into = from.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    let into = into.as_object_mut().unwrap();
    for (key, value) in from {
        if value.is_null() && how == Merge::Patch {
            into.remove(key);
        } else if key == "ownerReferences" && how == Merge::Apply {
            let mut owners = into.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
            for owner in value.as_array().into_iter().flatten() {
                owners.retain(|known| known["uid"] != owner["uid"]);
                owners.push(owner.clone());
            }
            into.insert(key.clone(), owners.into());
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value, how);
        }
    }
}

/// Takes out of `value` what was in `before` and is not in `now`, unless it is in `kept`.
fn take_away(value: &mut Value, before: &Value, now: &Value, kept: &Value) {
    let (Value::Object(value), Value::Object(before)) = (value, before) else { return };
    for (key, old) in before {
        match (now.get(key), kept.get(key)) {
            (None, None) => drop(value.remove(key)),
            (None, Some(_)) if !old.is_object() => {}
            (now, kept) => {
                if let Some(value) = value.get_mut(key) {
                    take_away(value, old, now.unwrap_or(&Value::Null), kept.unwrap_or(&Value::Null));
                }
            }
        }
    }
}
