//! [`whole_number`]: whole numbers in JSON, whose writers may have only numbers with a fraction.

use serde_json::Number;

/// Above it, numbers with a fraction are not exact.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Returns a number that is whole, such as `3600`, `3600.0` and `36e2` (JSON Schema, validation
/// section 6.1.1).
#[must_use]
pub fn whole_number(number: &Number) -> Option<i64> {
    let is_whole = |number: &f64| number.fract() == 0.0 && number.abs() <= MAX_EXACT;
    #[expect(clippy::cast_possible_truncation, reason = "whole, and in range")]
    number.as_i64().or_else(|| number.as_f64().filter(is_whole).map(|number| number as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_may_have_a_fraction_of_zero_or_an_exponent() {
        for (text, expected) in [
            ("3600", Some(3600)),
            ("3600.0", Some(3600)),
            ("36e2", Some(3600)),
            ("1000e-3", Some(1)),
            ("-0.0", Some(0)),
            ("-7", Some(-7)),
            ("9007199254740993", Some(9_007_199_254_740_993)),
            ("3600.5", None),
            ("1e300", None),
            ("18446744073709551615", None),
        ] {
            let number: Number = serde_json::from_str(text).unwrap();
            assert_eq!(whole_number(&number), expected, "{text}");
        }
    }
}
