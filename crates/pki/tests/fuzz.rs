//! Whatever comes from outside, signing requests, certificates, keys, revocation lists and the text around them, is read without a
//! panic however it is damaged; what is read is what it says; and nothing damaged is believed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use jiff::Timestamp;
use pki::{
    Certificate, CertificateRequest, ClientFiles, Crl, CrlContents, KeyAlgorithm, LeafProfile, PrivateKey,
    RevocationReason, RevokedCertificate, RootProfile, SerialNumber, ServerFiles, SigningRoot, Subject,
    TrustBundle, Usage, Validity,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};

/// One of everything, for some key algorithms. RSA is left to one of them: making its keys takes seconds.
struct Samples {
    now: Timestamp,
    root: SigningRoot,
    server: (Certificate, PrivateKey),
    certificates: Vec<Certificate>,
    keys: Vec<PrivateKey>,
    crls: Vec<Crl>,
}

impl Samples {
    fn new() -> Self {
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let algorithms = [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Ed25519];
        let roots = algorithms.map(|key_algorithm| {
            let subject = Subject { country: Some("TW".to_owned()), ..Subject::new("Plant").unwrap() };
            let profile =
                RootProfile { subject, generation: 1, key_algorithm, duration: Duration::from_hours(9000) };
            SigningRoot::generate(&profile, serial(), now).unwrap()
        });
        let leaves = roots.each_ref().map(|root| {
            let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
            (leaf(root, &key, now), key)
        });
        let crls = roots.iter().flat_map(|root| [0, 1, 20].map(|revoked| crl(root, revoked, now))).collect();
        let certificates =
            roots.iter().map(SigningRoot::certificate).chain(leaves.iter().map(|leaf| &leaf.0));
        let certificates = certificates.cloned().collect();
        let mut keys: Vec<_> = algorithms.map(|algorithm| PrivateKey::generate(algorithm).unwrap()).into();
        keys.push(PrivateKey::generate(KeyAlgorithm::Rsa2048).unwrap());
        let ([root, ..], [server, ..]) = (roots, leaves);
        Self { now, root, server, certificates, keys, crls }
    }
}

fn serial() -> SerialNumber {
    SerialNumber::generate().unwrap()
}

fn leaf(root: &SigningRoot, key: &PrivateKey, now: Timestamp) -> Certificate {
    let life = Duration::from_hours(24);
    let profile = LeafProfile {
        subject: Subject::new("mosquitto.broker").unwrap(),
        dns_names: vec!["mosquitto.plant.svc".to_owned(), "localhost".to_owned()],
        ip_addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
        uris: vec!["urn:example:mosquitto".to_owned()],
        usage: Usage::Server,
        key_algorithm: KeyAlgorithm::EcdsaP256,
        duration: life,
        crl_distribution_url: Some("http://ca.example/plant.crl".to_owned()),
    };
    let validity = Validity::plan(life, None, "", root.certificate(), now).unwrap();
    root.issue(&profile, key.public_key(), serial(), validity).unwrap()
}

fn crl(root: &SigningRoot, revoked: usize, now: Timestamp) -> Crl {
    let revoked = (0..revoked).map(|_| RevokedCertificate {
        serial: serial(),
        revoked_at: now,
        reason: RevocationReason::KeyCompromise,
    });
    let contents =
        CrlContents { number: 7, valid_for: Duration::from_hours(168), revoked: revoked.collect() };
    root.sign_crl(&contents, now).unwrap()
}

/// Signing requests as devices make them: with names and without, and one that asks for too much.
fn requests() -> Vec<String> {
    let algorithms = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
    let requests = algorithms.into_iter().flat_map(|algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let plain = CertificateParams::new(Vec::<String>::new()).unwrap();
        let mut named = CertificateParams::new(["door.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        named.subject_alt_names.push(SanType::URI("urn:example:door".try_into().unwrap()));
        let mut greedy = named.clone();
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        greedy.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        [plain, named, greedy].map(|params| params.serialize_request(&key).unwrap().pem().unwrap())
    });
    requests.collect()
}

/// The octets in a PEM text.
fn der(text: &str) -> Vec<u8> {
    pem::parse(text).unwrap().into_contents()
}

fn armored(label: &str, der: &[u8]) -> String {
    pem::encode(&pem::Pem::new(label, der))
}

/// Whether `part` stands somewhere in `whole`.
fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// The signed part of a certificate, list or request: the first element of its outer sequence.
fn signed_part(der: &[u8]) -> &[u8] {
    let (header, _) = length(der);
    let inner = &der[header..];
    let (inner_header, inner_length) = length(inner);
    &inner[..inner_header + inner_length]
}

/// Octets of tag and length, and the length that they tell.
fn length(der: &[u8]) -> (usize, usize) {
    match der[1] {
        short @ ..0x80 => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            (2 + count, der[2..2 + count].iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)))
        }
    }
}

#[test]
fn a_certificate_is_read_or_refused_and_never_believed_when_damaged() {
    let samples = Samples::new();
    let valid: Vec<_> = samples.certificates.iter().map(|certificate| certificate.der().to_vec()).collect();
    let roots: Vec<_> = samples.certificates.iter().filter(|certificate| certificate.is_ca()).collect();
    fuzz::check(&valid, |octets| {
        let text = armored("CERTIFICATE", octets);
        let _ = TrustBundle::from_pem(&text);
        let Ok(certificate) = Certificate::from_pem(&text) else { return Ok(()) };
        let again = Certificate::from_pem(&certificate.to_pem()).map_err(|error| error.to_string())?;
        if again != certificate {
            return Err("read back, it is another".to_owned());
        }
        let believed = roots.iter().any(|root| certificate.check_signed_by(root).is_ok());
        if believed && !valid.iter().any(|sample| contains(octets, signed_part(sample))) {
            return Err("a signature covers what was never signed".to_owned());
        }
        Ok(())
    });
}

#[test]
fn a_revocation_list_is_read_or_refused_and_never_believed_when_damaged() {
    let samples = Samples::new();
    let valid: Vec<_> = samples.crls.iter().map(|crl| crl.der().to_vec()).collect();
    let roots: Vec<_> = samples.certificates.iter().filter(|certificate| certificate.is_ca()).collect();
    fuzz::check(&valid, |octets| {
        let text = armored("X509 CRL", octets);
        let Ok(crl) = Crl::from_pem(&text) else { return Ok(()) };
        let again = Crl::from_pem(&crl.to_pem()).map_err(|error| error.to_string())?;
        if again != crl {
            return Err("read back, it is another".to_owned());
        }
        for entry in crl.revoked() {
            let _ = crl.entry(entry.serial);
        }
        let _ = crl.check_dates(samples.now);
        let believed = roots.iter().any(|root| crl.verify(root).is_ok());
        if believed && !valid.iter().any(|sample| contains(octets, signed_part(sample))) {
            return Err("a signature covers what was never signed".to_owned());
        }
        Ok(())
    });
}

#[test]
fn a_signing_request_is_read_or_refused_and_its_key_has_signed_it() {
    let valid: Vec<_> = requests().iter().map(|request| der(request)).collect();
    fuzz::check(&valid, |octets| {
        let text = armored("CERTIFICATE REQUEST", octets);
        if CertificateRequest::from_pem(&text).is_ok()
            && !valid.iter().any(|sample| contains(octets, signed_part(sample)))
        {
            return Err("proof was taken for what the key never signed".to_owned());
        }
        Ok(())
    });
}

#[test]
fn a_key_is_read_or_refused_and_is_the_one_that_stands_there() {
    let samples = Samples::new();
    let valid: Vec<_> = samples.keys.iter().map(|key| der(&key.to_pem())).collect();
    fuzz::check(&valid, |octets| {
        let Ok(key) = PrivateKey::from_pem(&armored("PRIVATE KEY", octets)) else { return Ok(()) };
        let again = PrivateKey::from_pem(&key.to_pem()).map_err(|error| error.to_string())?;
        if again.public_key() != key.public_key() {
            return Err("read back, it is another key".to_owned());
        }
        Ok(())
    });
}

#[test]
fn text_around_anything_is_read_or_refused() {
    let samples = Samples::new();
    let mut valid: Vec<_> = requests().into_iter().map(String::into_bytes).collect();
    valid.extend(samples.certificates.iter().map(|certificate| certificate.to_pem().into_bytes()));
    valid.extend(samples.keys.iter().map(|key| key.to_pem().as_bytes().to_vec()));
    valid.extend(samples.crls.iter().map(|crl| crl.to_pem().into_bytes()));
    let bundle: String = samples.certificates.iter().map(Certificate::to_pem).collect();
    valid.push(bundle.into_bytes());
    fuzz::check(&valid, |octets| {
        let text = String::from_utf8_lossy(octets);
        let _ = CertificateRequest::from_pem(&text);
        let _ = Certificate::all_from_pem(&text);
        let _ = Crl::all_from_pem(&text);
        let _ = PrivateKey::from_pem(&text);
        let _ = TrustBundle::from_pem(&text);
        // as an imported root: the same damage in both halves
        let _ = SigningRoot::load(&text, &text);
        Ok(())
    });
}

#[test]
fn an_imported_root_is_refused_or_is_the_one_that_was_meant() {
    let samples = Samples::new();
    let (certificate, key) = (samples.root.certificate(), samples.root.key().to_pem());
    fuzz::check(&[certificate.der().to_vec()], |octets| {
        match SigningRoot::load(&armored("CERTIFICATE", octets), &key) {
            Ok(loaded) if loaded.certificate() == certificate => Ok(()),
            // a root signs itself: no other is taken for it, but one whose signature reads as the same
            Ok(loaded) if contains(loaded.certificate().der(), signed_part(certificate.der())) => Ok(()),
            Ok(_) => Err("another root was taken up".to_owned()),
            Err(_) => Ok(()),
        }
    });
}

#[test]
fn a_brokers_files_are_refused_when_one_of_them_is_damaged() {
    let samples = Samples::new();
    let (certificate, key) = (samples.server.0.to_pem(), samples.server.1.to_pem());
    let (roots, crls) = (samples.root.certificate().to_pem(), samples.crls[0].to_pem());
    let valid: Vec<_> = [&certificate, &*key, &roots, &crls].map(|text| text.clone().into_bytes()).into();
    fuzz::check(&valid, |octets| {
        let text = String::from_utf8_lossy(octets);
        for damaged in 0..4 {
            let pick =
                |place, whole: &str| if place == damaged { text.to_string() } else { whole.to_owned() };
            let parts = [pick(0, &certificate), pick(1, &key), pick(2, &roots), pick(3, &crls)];
            let [certificate, key, roots, crls] = &parts;
            let _ = ClientFiles::check(certificate, key, roots, samples.now);
            if let Ok(files) = ServerFiles::check(certificate, key, roots, crls, samples.now)
                && files.certificate != samples.server.0
            {
                return Err("another certificate was taken for the broker's".to_owned());
            }
        }
        Ok(())
    });
}
