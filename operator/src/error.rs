//! What can go wrong with the world; what can go wrong with a spec is a [`Verdict`](api::conditions::Verdict) instead.

/// A failed read or write, or a bug. The object is tried again, later each time.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be reached.
    #[error("cannot {action}: {}", in_short(source))]
    Api {
        /// What was tried, as in "cannot read Secret x".
        action: String,
        /// What it said.
        source: Box<kube::Error>,
    },
    /// A blocking task did not come back.
    #[error("cannot {action}: the task was cancelled")]
    Cancelled {
        /// What was tried.
        action: &'static str,
    },
    /// The system has no randomness to give.
    #[error("cannot draw a serial number: the system gives no random octets")]
    Random,
    /// An object without what every stored object has.
    #[error("{0} has no {1}; the API server never stores such an object")]
    Incomplete(String, &'static str),
}

impl Error {
    /// What the API server said when it understood the request and refuses it: trying again will not help, a change will.
    pub fn refusal(&self) -> Option<String> {
        let Self::Api { source, .. } = self else { return None };
        let kube::Error::Api(status) = &**source else { return None };
        matches!(status.code, 400 | 403 | 405 | 422).then(|| self.to_string())
    }

    /// Whether it failed because the whole namespace is being deleted: nothing is left to be done there.
    pub fn is_namespace_terminating(&self) -> bool {
        let Self::Api { source, .. } = self else { return false };
        let kube::Error::Api(status) = &**source else { return false };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
    }
}

/// What most of the operator returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the API server said, without the rest of its answer; or why it said nothing.
pub(crate) fn in_short(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::Service(why) => {
            let mut innermost: &dyn std::error::Error = &**why;
            while let Some(source) = innermost.source() {
                innermost = source;
            }
            format!("the API server does not answer: {innermost}")
        }
        other => other.to_string(),
    }
}

/// Says what was tried when the API server refused.
pub(crate) trait Trying<T> {
    /// `action` completes "cannot …".
    fn trying(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Trying<T> for std::result::Result<T, kube::Error> {
    fn trying(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Api { action: action(), source: Box::new(source) })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn who_does_not_answer_is_told_with_the_innermost_reason() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "Connection refused (os error 111)");
        let outer = io::Error::other(io::Error::other(refused));
        let said = in_short(&kube::Error::Service(Box::new(outer)));
        assert_eq!(said, "the API server does not answer: Connection refused (os error 111)");
    }
}
