//! Syntax of the names in a subjectAltName: DNS names and URIs.

use std::net::IpAddr;

/// What is wrong with a name, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} {problem}")]
pub struct NameError {
    name: String,
    problem: &'static str,
}

/// A DNS name in the preferred syntax (RFC 1034, 3.5): labels of letters, digits and inner hyphens, at most 63 octets each
/// and 253 together; no wildcard, no final dot, not an address.
pub fn check_dns_name(name: &str) -> Result<(), NameError> {
    let wrong = |problem| Err(NameError { name: name.to_owned(), problem });
    if name.is_empty() {
        return wrong("is empty: leave it out");
    }
    if !name.is_ascii() {
        return wrong("is not ASCII: write the xn-- form of an international name");
    }
    if name.contains('*') {
        return wrong("holds a wildcard: write every name in full");
    }
    if name.ends_with('.') {
        return wrong("ends in a dot: write it without");
    }
    if name.parse::<IpAddr>().is_ok() {
        return wrong("is an IP address: write it under ipAddresses");
    }
    if name.len() > 253 {
        return wrong("is longer than 253 characters");
    }
    for label in name.split('.') {
        if label.is_empty() {
            return wrong("has two dots in a row or begins with one");
        }
        if label.len() > 63 {
            return wrong("has a part between dots of more than 63 characters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return wrong("has a part that begins or ends with a hyphen");
        }
        if !label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-') {
            return wrong("may hold only letters, digits, hyphens and dots");
        }
    }
    if name.rsplit('.').next().is_some_and(|last| last.bytes().all(|octet| octet.is_ascii_digit())) {
        return wrong("ends in a number: a last part of digits alone reads as an IP address");
    }
    Ok(())
}

/// An absolute URI (RFC 3986): a scheme, a colon, and something after it, all of it ASCII. RFC 5280, 4.2.1.6, allows no relative
/// one, and wants a host after `//`.
pub fn check_uri(uri: &str) -> Result<(), NameError> {
    let wrong = |problem| Err(NameError { name: uri.to_owned(), problem });
    if !uri.is_ascii() {
        return wrong("is not ASCII: write other characters as %XX");
    }
    if uri.len() > 2048 {
        return wrong("is longer than 2048 characters");
    }
    let Some((scheme, rest)) = uri.split_once(':') else {
        return wrong(
            "has no scheme: write it in full, such as urn:example:sensor:1 or spiffe://site/sensor",
        );
    };
    let mut letters = scheme.bytes();
    if !letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        || !letters.all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'+' | b'-' | b'.'))
    {
        return wrong("has no valid scheme before the colon, such as urn or https");
    }
    if rest.is_empty() {
        return wrong("has nothing after the scheme");
    }
    if let Some(authority) = rest.strip_prefix("//") {
        let host = authority.split(['/', '?', '#']).next().unwrap_or_default();
        if host.is_empty() {
            return wrong("has no host after //");
        }
    }
    if !rest.bytes().all(is_uri_octet) {
        return wrong("holds a space or another character that must be written as %XX");
    }
    let mut escapes = rest.split('%').skip(1);
    if !escapes.all(|after| after.len() >= 2 && after.bytes().take(2).all(|octet| octet.is_ascii_hexdigit()))
    {
        return wrong("has a % that is not followed by two hexadecimal digits");
    }
    Ok(())
}

/// Where a CRL can be fetched: RFC 5280, 4.2.1.13, names HTTP; clients fetch nothing else.
pub fn check_crl_distribution_url(url: &str) -> Result<(), NameError> {
    check_uri(url)?;
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err(NameError { name: url.to_owned(), problem: "must begin with http:// or https://" });
    }
    Ok(())
}

/// Unreserved, reserved, or the percent sign (RFC 3986, 2).
fn is_uri_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(result: Result<(), NameError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn the_names_of_services_hosts_and_devices_are_accepted() {
        for name in [
            "localhost",
            "mqttbroker-mosquitto.iot.svc.cluster.local",
            "xn--fiqs8s.example",
            "1.sensor",
            "A-1.B",
        ] {
            check_dns_name(name).unwrap();
        }
        check_dns_name(&["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".")).unwrap();
    }

    #[test]
    fn a_refused_dns_name_comes_with_what_to_write_instead() {
        for (name, hint) in [
            ("", "leave it out"),
            ("bücher.example", "write the xn-- form"),
            ("*.example", "write every name in full"),
            ("example.", "write it without"),
            ("10.0.0.1", "write it under ipAddresses"),
            ("::1", "write it under ipAddresses"),
            ("a..b", "two dots in a row"),
            (".a", "two dots in a row or begins with one"),
            ("-a.b", "hyphen"),
            ("a.b-", "hyphen"),
            ("a_b", "only letters, digits, hyphens and dots"),
            ("a b", "only letters, digits, hyphens and dots"),
            ("a\0b", "only letters, digits, hyphens and dots"),
            ("host.42", "ends in a number"),
        ] {
            let problem = problem(check_dns_name(name));
            assert!(problem.contains(hint), "{name:?}: {problem}");
        }
        assert!(problem(check_dns_name(&"a".repeat(64))).contains("more than 63"));
        assert!(problem(check_dns_name(&vec!["a".repeat(63); 4].join("."))).contains("longer than 253"));
    }

    #[test]
    fn absolute_uris_are_accepted() {
        for uri in [
            "urn:example:device001",
            "spiffe://site/ns/iot/device001",
            "https://[2001:db8::1]:8443/a?b=c%20d#e",
            "tag:example.org,2026:sensor",
        ] {
            check_uri(uri).unwrap();
        }
    }

    #[test]
    fn a_refused_uri_comes_with_what_to_write_instead() {
        for (uri, hint) in [
            ("device001", "no scheme"),
            ("1a:b", "no valid scheme"),
            (":b", "no valid scheme"),
            ("urn:", "nothing after the scheme"),
            ("https:///path", "no host"),
            ("urn:a b", "%XX"),
            ("urn:a\nb", "%XX"),
            ("urn:größe", "%XX"),
            ("urn:a%2", "two hexadecimal digits"),
            ("urn:a%zz", "two hexadecimal digits"),
        ] {
            let problem = problem(check_uri(uri));
            assert!(problem.contains(hint), "{uri:?}: {problem}");
        }
    }

    #[test]
    fn a_crl_is_fetched_over_http() {
        check_crl_distribution_url("http://operator.iot.svc/ca.crl").unwrap();
        assert!(problem(check_crl_distribution_url("ldap://directory/ca")).contains("http://"));
    }
}
