//! Look-ups always have the result of decoding.

use super::{super::huffman::tests::encode, *};

const CAPACITY: usize = 4 << 20;

fn strings() -> KnownStrings {
    KnownStrings::with_capacity(CAPACITY)
}

fn decode(known: &mut KnownStrings, coded: &[u8]) -> Option<Vec<u8>> {
    // Bytes of earlier strings, as the buffer of sections has.
    let mut out = vec![b'#'; huffman::max_decoded_length(coded.len())];
    let length = known.decode(coded, &mut out)?;
    out.truncate(length);
    Some(out)
}

/// A text as long as a token, different for each number.
fn token(number: usize) -> Vec<u8> {
    let text = format!("Bearer eyJ{number}.{}.{number:x}", "aB3-".repeat(20 + number % 50));
    text.into_bytes()
}

#[test]
fn string_is_stored_when_it_comes_again() {
    let (mut known, text) = (strings(), token(7));
    let coded = encode(&text);
    for is_stored in [false, true, true, true] {
        assert_eq!(decode(&mut known, &coded).as_ref(), Some(&text));
        assert_eq!(known.has(&coded), is_stored);
    }
    assert_eq!(known.written, (coded.len() + text.len()) as u64, "it was written once");
}

#[test]
fn short_and_very_long_strings_are_not_stored() {
    for length in [0, 10, 60, 12_000] {
        let (mut known, text) = (strings(), vec![b'e'; length]);
        let coded = encode(&text);
        for _ in 0..3 {
            assert_eq!(decode(&mut known, &coded).as_ref(), Some(&text));
        }
        assert_eq!(known.has(&coded), (MIN_CODED..=MAX_CODED).contains(&coded.len()), "{length}");
    }
}

#[test]
fn bytes_that_differ_anywhere_do_not_match() {
    let (mut known, text) = (strings(), token(3));
    let coded = encode(&text);
    for _ in 0..2 {
        decode(&mut known, &coded);
    }
    for place in 0..coded.len() {
        for bit in 0..8 {
            let mut other = coded.clone();
            other[place] ^= 1 << bit;
            let expected = decode(&mut strings(), &other);
            for _ in 0..3 {
                assert_eq!(decode(&mut known, &other), expected, "{place} {bit}");
            }
        }
    }
    for length in 0..coded.len() {
        let expected = decode(&mut strings(), &coded[..length]);
        assert_eq!(decode(&mut known, &coded[..length]), expected);
    }
    assert_eq!(decode(&mut known, &coded), Some(text));
}

#[test]
fn malformed_strings_are_refused_each_time() {
    let mut known = strings();
    let whole = encode(&token(5));
    // Eight ones of padding, and the end-of-string code.
    for malformed in [[&whole[..], &[0xff]].concat(), [&whole[..], &[0xff; 4]].concat()] {
        for _ in 0..4 {
            assert_eq!(decode(&mut known, &malformed), None);
            assert!(!known.has(&malformed));
        }
    }
    assert_eq!(known.written, 0);
}

#[test]
fn strings_with_the_same_start_and_end_are_told_apart() {
    let mut known = strings();
    let text = |n| [&[b'a'; 200][..], &[b'0' + n], &[b'x'; 200]].concat();
    let texts: Vec<_> = (0..10).map(text).collect();
    for _ in 0..5 {
        for text in &texts {
            assert_eq!(decode(&mut known, &encode(text)).as_ref(), Some(text));
        }
    }
}

#[test]
fn strings_of_before_are_replaced_in_a_full_ring() {
    let mut known = KnownStrings::with_capacity(5000);
    for round in 0..4 {
        for number in (0..300).flat_map(|number| [number, number, number, number / 2]) {
            let text = token(number);
            assert_eq!(decode(&mut known, &encode(&text)), Some(text), "{round} {number}");
            assert!(known.capacities()[0] <= 5000);
        }
    }
    let kept = (0..300).filter(|number| known.has(&encode(&token(*number)))).count();
    assert!((1..40).contains(&kept), "{kept}");
    for too_small in [0, 1, 100] {
        let mut known = KnownStrings::with_capacity(too_small);
        for _ in 0..3 {
            assert_eq!(decode(&mut known, &encode(&token(1))), Some(token(1)), "it does not fit");
            assert_eq!(known.written, 0);
        }
    }
}

#[test]
fn strings_that_come_once_replace_nothing() {
    let mut known = strings();
    let used: Vec<_> = (0..100).map(|number| encode(&token(number))).collect();
    for coded in used.iter().flat_map(|coded| [coded; 2]) {
        decode(&mut known, coded);
    }
    let written = known.written;
    for number in 1000..21_000 {
        decode(&mut known, &encode(&token(number)));
    }
    let kept = used.iter().filter(|coded| known.has(coded)).count();
    assert!(kept >= 99 && known.written - written < 10_000, "{kept}");
}

#[test]
fn several_strings_of_a_set_are_stored_side_by_side() {
    let mut known = strings();
    let codes: Vec<_> = (0..2000).map(|number| encode(&token(number))).collect();
    for coded in codes.iter().chain(&codes) {
        decode(&mut known, coded);
    }
    let kept = codes.iter().filter(|coded| known.has(coded)).count();
    assert!(kept > 1800, "{kept}");
}

#[test]
fn memory_is_bounded_and_taken_when_needed() {
    let mut known = strings();
    assert_eq!(known.capacities(), [0, 0]);
    decode(&mut known, &encode(b"short"));
    assert_eq!(known.capacities(), [0, 0]);
    for number in (0..10_000).flat_map(|number| [number, number]) {
        decode(&mut known, &encode(&token(number)));
    }
    let [ring, sets] = known.capacities();
    assert_eq!(ring, CAPACITY);
    assert!(sets <= CAPACITY / 16, "{sets}");
}
