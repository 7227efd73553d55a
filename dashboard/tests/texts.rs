//! Both languages say the same things, and the page asks for nothing that neither says.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a helper of tests is a test, which clippy does not see

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const LANGUAGES: [&str; 2] = ["en", "zh-TW"];

fn assets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets")
}

fn texts(language: &str) -> BTreeMap<String, String> {
    let file = assets().join("i18n").join(format!("{language}.json"));
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn placeholders(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
}

/// The scripts of the page, without those of others.
fn scripts() -> String {
    [assets(), assets().join("screens")]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "js"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect()
}

#[test]
fn both_languages_have_the_same_texts_with_the_same_blanks() {
    let [english, chinese] = LANGUAGES.map(texts);
    assert_eq!(english.keys().collect::<Vec<_>>(), chinese.keys().collect::<Vec<_>>());
    for (key, text) in &english {
        assert_eq!(placeholders(text), placeholders(&chinese[key]), "{key}");
        assert!(!text.is_empty() && !chinese[key].is_empty(), "{key}");
    }
}

#[test]
fn every_text_that_the_page_asks_for_is_there() {
    let texts = texts("en");
    let scripts = scripts();
    let asked: Vec<&str> = scripts
        .match_indices("t('")
        // `split('…` and the like end in "t('", too.
        .filter(|(at, _)| !scripts[..*at].ends_with(|before: char| before.is_alphanumeric() || before == '.'))
        .filter_map(|(at, start)| scripts[at + start.len()..].split('\'').next())
        .collect();
    assert!(asked.len() > 50, "the search finds nothing: {asked:?}");
    let missing: Vec<_> = asked.iter().filter(|key| !texts.contains_key(**key)).collect();
    assert_eq!(missing, Vec::<&&str>::new());
}

#[test]
fn no_text_is_left_over() {
    let scripts = scripts();
    // Texts of a state, a kind and so on are asked for by a key that is put together.
    let groups = ["t(`", "word('", "stateChip('"].map(|call| {
        scripts
            .match_indices(call)
            .filter_map(|(at, start)| scripts[at + start.len()..].split(['$', '\'']).next())
            .map(|group| if group.ends_with('.') { group.to_owned() } else { format!("{group}.") })
            .collect::<BTreeSet<_>>()
    });
    let composed: BTreeSet<String> = groups.into_iter().flatten().filter(|group| group.len() > 1).collect();
    for key in texts("en").keys() {
        let plain = scripts.contains(&format!("'{key}'"));
        let put_together = composed.iter().any(|group| key.starts_with(group.as_str()));
        assert!(plain || put_together, "nothing asks for {key}");
    }
}

#[test]
fn every_state_that_a_resource_can_have_is_said_in_both_languages() {
    use api::CertificateState;
    let states = [
        CertificateState::Pending,
        CertificateState::Valid,
        CertificateState::Renewing,
        CertificateState::RenewalOverdue,
        CertificateState::Expired,
        CertificateState::Suspended,
        CertificateState::Revoked,
        CertificateState::Failed,
    ];
    for language in LANGUAGES {
        let texts = texts(language);
        for state in states {
            let serde_json::Value::String(word) = serde_json::to_value(state).unwrap() else { panic!() };
            assert!(texts.contains_key(&format!("state.{word}")), "{language}: {word}");
        }
    }
}
