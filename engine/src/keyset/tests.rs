use super::*;

fn secret(kid: Option<&str>, algorithm: Algorithm, byte: u8) -> VerificationKey {
    VerificationKey::new(kid, algorithm, KeyMaterial::Secret(&[byte; 64])).unwrap()
}

fn public(kid: Option<&str>, byte: u8) -> VerificationKey {
    let mut n = [0xb5; 256];
    n[1] = byte;
    let material = KeyMaterial::Rsa { n: &n, e: &[1, 0, 1] };
    VerificationKey::new(kid, Algorithm::Rs256, material).unwrap()
}

fn certified(kid: Option<&str>, byte: u8, x5t: &str, x5t_s256: &str) -> VerificationKey {
    let name = |text: &str| (!text.is_empty()).then(|| text.into());
    let certificate = CertificateNames { x5t: name(x5t), x5t_s256: name(x5t_s256) };
    public(kid, byte).with_certificate(certificate)
}

fn by_kid(kid: Option<&str>) -> KeyName<'_> {
    KeyName { kid, ..KeyName::default() }
}

/// Returns the identities of the keys to try, in the order of `keys`.
fn selected(
    set: &KeySet,
    name: KeyName<'_>,
    keys: &[VerificationKey],
) -> Result<Vec<bool>, Reject> {
    let candidates = set.select(name, keys[0].algorithm())?;
    let is_selected = |key: &VerificationKey| {
        candidates.iter().any(|candidate| candidate.identity() == key.identity())
    };
    Ok(keys.iter().map(is_selected).collect())
}

#[test]
fn key_is_selected_by_kid_and_algorithm() {
    let set = KeySet::new(vec![
        secret(Some("b"), Algorithm::Hs256, 1),
        secret(Some("a"), Algorithm::Hs512, 2),
        secret(Some("a"), Algorithm::Hs256, 3),
    ]);
    let selected = |kid, algorithm| {
        let candidates = set.select(by_kid(kid), algorithm)?;
        Ok(candidates.iter().map(VerificationKey::identity).collect::<Vec<_>>())
    };
    let one = |algorithm, byte| Ok(vec![secret(None, algorithm, byte).identity()]);
    assert_eq!(selected(Some("a"), Algorithm::Hs256), one(Algorithm::Hs256, 3));
    assert_eq!(selected(Some("b"), Algorithm::Hs512), Err(Reject::AlgorithmNotAllowed));
    assert_eq!(selected(Some("c"), Algorithm::Hs256), Err(Reject::KidUnknown));
    assert_eq!(selected(None, Algorithm::Hs256), Err(Reject::KidMissing), "of secrets, only one");
    assert_eq!(selected(None, Algorithm::Hs512), one(Algorithm::Hs512, 2));
    assert_eq!(selected(None, Algorithm::Rs256), Err(Reject::AlgorithmNotAllowed));
}

#[test]
fn each_of_the_rotating_secrets_is_selected() {
    let secrets = |count: u8| (1..=count).map(|byte| secret(None, Algorithm::Hs256, byte));
    let set = |count| KeySet::rotating(secrets(count).chain(secrets(1)).collect());
    let all = secrets(4).collect::<Vec<_>>();
    for kid in [None, Some("of a client secret")] {
        assert_eq!(selected(&set(4), by_kid(kid), &all), Ok(vec![true; 4]), "{kid:?}");
        assert_eq!(selected(&set(2), by_kid(kid), &all), Ok(vec![true, true, false, false]));
    }
    assert_eq!(set(4).len(), 4, "the same secret counts once");
    assert_eq!(
        set(1).select(by_kid(None), Algorithm::Rs256).err(),
        Some(Reject::AlgorithmNotAllowed)
    );
    assert!(set(2).is_same(&KeySet::rotating(secrets(2).rev().collect())));
    assert!(!set(2).is_same(&KeySet::rotating(
        [1, 3].map(|byte| secret(None, Algorithm::Hs256, byte)).into()
    )));
    assert_eq!(KeySet::new(secrets(2).collect()).len(), 1, "of others, the first");
}

#[test]
fn configured_key_without_kid_matches_every_kid() {
    let keys = || vec![secret(None, Algorithm::Hs256, 1)];
    let set = KeySet::new(keys());
    let error = |set: &KeySet, kid, algorithm| set.select(by_kid(kid), algorithm).err();
    assert_eq!(error(&set, Some("anything"), Algorithm::Hs256), None);
    assert_eq!(error(&set, None, Algorithm::Hs256), None);
    assert_eq!(error(&set, Some("anything"), Algorithm::Hs384), Some(Reject::KidUnknown));
    let published = KeySet::published(keys());
    assert_eq!(error(&published, Some("anything"), Algorithm::Hs256), Some(Reject::KidUnknown));
    assert_eq!(error(&published, None, Algorithm::Hs256), None);
}

#[test]
fn keys_of_one_kid_are_all_selected() {
    let keys = || [public(Some("a"), 1), public(Some("a"), 2), public(Some("b"), 3)];
    let set = KeySet::published(keys().into());
    assert_eq!(selected(&set, by_kid(Some("a")), &keys()), Ok(vec![true, true, false]));
    assert_eq!(selected(&set, by_kid(None), &keys()), Ok(vec![true, true, true]));
    let mut shuffled: Vec<_> = keys().into_iter().rev().collect();
    shuffled.push(public(Some("a"), 1));
    let shuffled = KeySet::published(shuffled);
    assert!(set.is_same(&shuffled) && shuffled.len() == 3, "the order and repetition do not count");
    assert!(!set.is_same(&KeySet::published(vec![public(Some("a"), 1), public(Some("b"), 3)])));
}

#[test]
fn unnamed_key_is_one_of_at_most_four() {
    let five = |kid: Option<&str>| {
        let mut keys: Vec<_> = (1..5).map(|byte| public(Some(&format!("k{byte}")), byte)).collect();
        keys.push(public(kid, 5));
        keys
    };
    let four = KeySet::published(five(None).drain(..4).collect());
    assert_eq!(selected(&four, by_kid(None), &five(None)), Ok(vec![true, true, true, true, false]));
    let named = KeySet::published(five(Some("k5")));
    assert_eq!(selected(&named, by_kid(None), &five(None)), Err(Reject::KidMissing));
    let anonymous = KeySet::published(five(None));
    let only_last = Ok(vec![false, false, false, false, true]);
    assert_eq!(selected(&anonymous, by_kid(None), &five(None)), only_last);
}

#[test]
fn thumbprint_selects_its_key() {
    let keys = || {
        [
            certified(Some("a"), 1, "one", "ONE"),
            certified(Some("two"), 2, "", ""),
            certified(None, 3, "three", ""),
        ]
    };
    let set = KeySet::published(keys().into());
    let by = |x5t_s256, x5t| selected(&set, KeyName { kid: None, x5t_s256, x5t }, &keys());
    assert_eq!(by(None, Some("one")), Ok(vec![true, false, false]));
    assert_eq!(by(Some("ONE"), None), Ok(vec![true, false, false]));
    assert_eq!(by(Some("ONE"), Some("three")), Ok(vec![true, false, false]), "SHA-256 is first");
    assert_eq!(by(None, Some("two")), Ok(vec![false, true, false]), "ADFS: the kid is the x5t");
    assert_eq!(by(None, Some("three")), Ok(vec![false, false, true]));
    // The certificates of these are not published, so one of them may have this thumbprint.
    assert_eq!(by(None, Some("other")), Ok(vec![false, true, false]));
    assert_eq!(by(Some("other"), None), Ok(vec![false, true, true]));
    let kid = KeyName { kid: Some("a"), x5t_s256: None, x5t: Some("three") };
    assert_eq!(selected(&set, kid, &keys()), Ok(vec![true, false, false]), "a kid is enough");
    let certified = KeySet::published(vec![certified(None, 3, "three", "")]);
    let unknown = KeyName { kid: None, x5t_s256: None, x5t: Some("other") };
    assert_eq!(selected(&certified, unknown, &keys()), Err(Reject::KidUnknown));
    assert!(!certified.is_same(&KeySet::published(vec![public(None, 3)])));
}

#[test]
fn skipped_key_is_not_unknown() {
    use crate::error::KeyError;

    let skipped = |kid: &str| SkippedKey {
        index: 1,
        kid: Some(kid.into()),
        error: KeyError::MissingMember("n"),
    };
    let set = KeySet::published(vec![public(Some("a"), 1)])
        .with_skipped(vec![skipped("a"), skipped("b")]);
    let error = |kid, algorithm| set.select(by_kid(Some(kid)), algorithm).err();
    assert_eq!(error("a", Algorithm::Rs256), None);
    assert_eq!(error("a", Algorithm::Es256), Some(Reject::AlgorithmNotAllowed));
    assert_eq!(error("b", Algorithm::Rs256), Some(Reject::KeySkipped));
    assert_eq!(error("c", Algorithm::Rs256), Some(Reject::KidUnknown));
    assert_eq!(
        set.skipped_key("b").unwrap().to_string(),
        r#"keys[1] (kid "b"): its member "n" is missing"#
    );
    assert!(set.is_same(&KeySet::published(vec![public(Some("a"), 1)])));
}

#[test]
fn key_set_debug_shows_no_key_material() {
    let shown = format!("{:?}", KeySet::new(vec![secret(Some("a"), Algorithm::Hs256, 0xab)]));
    assert!(
        shown.contains("Hs256") && !shown.contains("171") && !shown.to_lowercase().contains("ab, "),
        "{shown}"
    );
}
