//! How any object is called, whatever its kind.

use kube::Resource;

/// A kind, a namespace and a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The kind, such as `Secret`.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of `name` in `namespace`.
    pub fn of<K: Resource<DynamicType = ()>>(namespace: &str, name: &str) -> Self {
        Self { kind: K::kind(&()).into_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }
}
