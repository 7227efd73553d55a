//! Other people's verifiers judge what the crate issues, for every key algorithm: OpenSSL, rustls, Python and pkilint. Each
//! must accept what is good and refuse what is revoked or for another use, or else it has not looked.

mod imported_root;
mod openssl;
mod pkilint;
mod program;
mod python;
mod rustls;
mod site;
