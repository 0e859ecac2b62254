//! Constraints on directory names.

use unicode_normalization::UnicodeNormalization as _;
use x509_parser::x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name};

use super::Containment;

/// Whether a name begins with the components of a constraint. Their texts are compared without
/// regard to case, type of string and repeated spaces, as RFC 5280 section 7.1 requires: another
/// spelling must not evade an exclusion.
pub(super) fn is_within(name: &X509Name<'_>, base: &X509Name<'_>) -> Containment {
    let mut components = name.iter_rdn();
    let mut is_within = true;
    for expected in base.iter_rdn() {
        let expected = normalized(expected)?;
        match components.next() {
            Some(component) => is_within &= normalized(component)? == expected,
            None => is_within = false,
        }
    }
    Some(is_within)
}

/// Returns the attributes of a component, in a fixed order. `None` if a value is not text.
fn normalized(component: &RelativeDistinguishedName<'_>) -> Option<Vec<(String, String)>> {
    let mut attributes: Vec<_> = component.iter().map(attribute).collect::<Option<_>>()?;
    attributes.sort();
    Some(attributes)
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<(String, String)> {
    let text: String = attribute.as_str().ok()?.nfkc().collect();
    let words: Vec<_> = text.split_whitespace().collect();
    Some((attribute.attr_type().to_id_string(), words.join(" ").to_lowercase()))
}
