//! Shutting a device out: what was issued to it is listed by the CRL of whoever signed it, a broker is known to use that CRL, and
//! only then its session there is cut. For those whose owner withdraws them, and for those who are gone.

use std::sync::Arc;

use api::conditions::{READY, holds};
use api::{Loaded, MqttBroker, RootCA, Superseded, names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use crate::certificate::request;
use crate::context::Context;
use crate::fleet::{self, CutState};
use crate::key::Key;
use crate::roots::{Listing, Signer, UsableRoot};

/// Whether a root can sign.
pub enum Signs {
    /// It can.
    Now(Arc<UsableRoot>),
    /// Not now, but its key is kept, or it is to have one.
    Perhaps,
    /// It is gone with its key: nobody trusts it.
    Never,
}

/// An entry of the CRL of a generation of `root`.
pub struct Listed {
    /// Whose CRL it is.
    pub root: Arc<UsableRoot>,
    /// The entry.
    pub listing: Listing,
}

/// How far a device is shut out of one broker.
pub enum Progress {
    /// The broker is not known to use the CRLs yet.
    Open,
    /// Its session is being cut.
    Cutting,
    /// Whatever session it had was cut then.
    Cut(Timestamp),
    /// Its session could not be cut; that is tried again.
    Failed(String),
}

/// Whether the root `name` can sign.
pub fn root(context: &Context, namespace: &str, name: &str) -> Signs {
    if let Some(root) = context.roots.usable(namespace, name) {
        return Signs::Now(root);
    }
    let exists = context.objects.roots.get(&ObjectRef::new(name).within(namespace)).is_some();
    let key = Key::of::<Secret>(namespace, &names::owned::<RootCA>(name));
    if exists || context.children.get(&key).is_some() { Signs::Perhaps } else { Signs::Never }
}

/// The CRL entries of everything in `issued` that could let somebody in; `default` is the root of what names none. None: something
/// is not listed yet. Of a generation that its root trusts no more nothing is listed, and nothing lets anybody in.
pub fn listings<'a>(
    context: &Context,
    namespace: &str,
    issued: impl Iterator<Item = &'a Superseded>,
    default: &Arc<UsableRoot>,
) -> Option<Vec<Listed>> {
    let mut listed = Vec::new();
    for it in issued {
        let root = match it.root_ca.as_deref().filter(|name| *name != default.name) {
            None => Arc::clone(default),
            Some(name) => match root(context, namespace, name) {
                Signs::Now(root) => root,
                Signs::Perhaps => return None,
                Signs::Never => continue,
            },
        };
        let Ok(serial) = it.serial_number.parse() else { continue };
        match root.revoked.get(serial) {
            Some(listing) => listed.push(Listed { root, listing }),
            None if root.has_retired(it.root_generation) => {}
            None => return None,
        }
    }
    Some(listed)
}

/// What a cut is done for: the newest CRL of `root` that matters, by generation and number.
pub fn because(listed: &[Listed], root: &UsableRoot) -> (u32, i64) {
    let own = listed.iter().filter(|it| it.root.name == root.name);
    let newest = own.map(|it| (it.listing.generation, it.listing.crl_number)).max();
    let (generation, number) = newest.unwrap_or((root.active().number, root.active().crl_number));
    (generation, i64::try_from(number).unwrap_or(i64::MAX))
}

/// The brokers of `namespace` that may hold sessions of whom these roots let in: one that was never seen to run does not, and starts
/// with the CRLs in its Secret. By name.
pub fn brokers(
    context: &Context,
    namespace: &str,
    listed: &[Listed],
    root: &UsableRoot,
) -> Vec<Arc<MqttBroker>> {
    let lets_in = |broker: &MqttBroker| {
        request::root_of(context, namespace, broker)
            .is_none_or(|own| own.name == root.name || listed.iter().any(|it| it.root.name == own.name))
    };
    let may_hold_sessions = |broker: &MqttBroker| {
        context.fleet.loaded(namespace, &broker.name_any()).is_some()
            || broker
                .status
                .as_ref()
                .is_some_and(|status| status.loaded.is_some() || holds(&status.holder.conditions, READY))
    };
    let here = context.objects.brokers.state().into_iter();
    let here = here.filter(|broker| broker.namespace().as_deref() == Some(namespace));
    let mut found: Vec<_> = here.filter(|broker| lets_in(broker) && may_hold_sessions(broker)).collect();
    found.sort_by_key(|broker| broker.name_any());
    found
}

/// Takes the next step of shutting `device` out of `broker`. `root` signs for whom takes the session over, where the broker's own
/// does not.
pub fn advance(
    context: &Context,
    namespace: &str,
    device: &str,
    broker: &MqttBroker,
    listed: &[Listed],
    root: &Arc<UsableRoot>,
    now: Timestamp,
) -> Progress {
    let loaded = context.fleet.loaded(namespace, &broker.name_any());
    let uses_all = |loaded: &Loaded| {
        listed.iter().all(|it| {
            let signer = it.root.generations.iter().find(|signer| signer.number == it.listing.generation);
            signer.is_none_or(|signer| uses(loaded, signer, it.listing.crl_number))
        })
    };
    if !loaded.as_ref().is_some_and(uses_all) {
        return Progress::Open;
    }
    let Some(address) = fleet::address(broker) else { return Progress::Open };
    let because = because(listed, root);
    let own = request::root_of(context, namespace, broker);
    let signs = own.as_ref().unwrap_or(root);
    match context.fleet.cut(namespace, device, &address, signs, because, now) {
        CutState::Running => Progress::Cutting,
        CutState::Done(at) => Progress::Cut(at),
        CutState::Failed(_, problem) => Progress::Failed(problem),
    }
}

/// Whether a broker that has `loaded` this lets nobody in whom the CRL `number` of `signer` lists: it uses it or a later one, or does not
/// trust `signer`.
pub fn uses(loaded: &Loaded, signer: &Signer, number: u64) -> bool {
    let fingerprint = signer.signing.certificate().fingerprint();
    let crl = loaded.crls.iter().find(|crl| crl.root == fingerprint);
    let is_late = |number_there| u64::try_from(number_there).is_ok_and(|there| there >= number);
    !loaded.roots.contains(&fingerprint) || crl.is_some_and(|crl| is_late(crl.number))
}
