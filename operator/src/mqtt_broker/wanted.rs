//! What a running broker is to use. Pure.

use std::collections::BTreeMap;

use api::Loaded;

use crate::roots::UsableRoot;

/// What a running broker is to use.
pub(super) struct Wanted<'a> {
    /// The serial number of its certificate.
    serial_number: &'a str,
    /// The number of the CRL of each root, by the root's fingerprint.
    crls: BTreeMap<String, i64>,
}

impl<'a> Wanted<'a> {
    pub(super) fn of(serial_number: &'a str, root: &UsableRoot) -> Self {
        let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let crls = root.generations.iter();
        let crls = crls.map(|it| (it.signing.certificate().fingerprint(), number(it.crl_number)));
        Self { serial_number, crls: crls.collect() }
    }

    /// Whether, for every root that it trusts already, the broker uses this CRL or a later one.
    pub(super) fn crls_are_in(&self, loaded: &Loaded) -> bool {
        let numbers = loaded.crl_numbers();
        let known = |root: &String| numbers.get(root.as_str()).copied();
        self.crls.iter().all(|(root, number)| known(root).is_none_or(|loaded| loaded >= *number))
    }

    /// What the broker does not use yet.
    pub(super) fn missing_in(&self, loaded: &Loaded) -> Option<String> {
        if loaded.serial_number != self.serial_number {
            return Some(format!("certificate {} is not in use yet", self.serial_number));
        }
        let roots: Vec<&String> = self.crls.keys().collect();
        if loaded.roots.len() != roots.len() || !roots.iter().all(|root| loaded.roots.contains(root)) {
            return Some("the roots that it trusts are not those that it should".to_owned());
        }
        let numbers = loaded.crl_numbers();
        let late =
            self.crls.iter().find(|(root, number)| numbers.get(root.as_str()).is_none_or(|it| it < number));
        late.map(|(_, number)| format!("CRL {number} is not in use yet"))
    }
}

#[cfg(test)]
mod tests {
    use api::LoadedCrl;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn loaded(serial_number: &str, crls: &[(&str, i64)]) -> Loaded {
        Loaded {
            serial_number: serial_number.into(),
            roots: crls.iter().map(|(root, _)| (*root).to_owned()).collect(),
            crls: crls
                .iter()
                .map(|(root, number)| LoadedCrl { root: (*root).into(), number: *number })
                .collect(),
            loaded_at: Time(jiff::Timestamp::UNIX_EPOCH),
        }
    }

    #[test]
    fn a_later_crl_will_do_and_anything_else_that_differs_is_named() {
        let crls = BTreeMap::from([("a".to_owned(), 4), ("b".to_owned(), 7)]);
        let wanted = Wanted { serial_number: "0a", crls };
        assert_eq!(wanted.missing_in(&loaded("0a", &[("a", 4), ("b", 9)])), None);
        let missing = |loaded| wanted.missing_in(&loaded).unwrap();
        assert!(missing(loaded("0b", &[("a", 4), ("b", 7)])).contains("certificate 0a"));
        assert!(missing(loaded("0a", &[("a", 4)])).contains("roots"));
        assert!(missing(loaded("0a", &[("a", 4), ("b", 6)])).contains("CRL 7"));
        assert!(!wanted.crls_are_in(&loaded("0a", &[("b", 6)])));
        assert!(
            wanted.crls_are_in(&loaded("0a", &[("b", 7)])),
            "a root that it does not know yet takes the Secret"
        );
    }
}
