//! Actions of an ACK frame: variables of the transaction that HAProxy sets.

use super::value::{SpopValue, put_text};

/// Writes the actions of one ACK frame. HAProxy ignores variables that its configuration does not
/// mention, and puts a prefix before their names.
pub struct ActionList<'o>(&'o mut Vec<u8>);

/// Sets a variable, with three arguments.
const SET_VARIABLE: [u8; 2] = [1, 3];
/// The scope of a request and its response.
const TRANSACTION: u8 = 2;

impl<'o> ActionList<'o> {
    /// Appends the actions to these bytes.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self(out)
    }

    /// Sets a variable of the transaction. Names have letters, digits, underscores and periods;
    /// every other byte becomes an underscore.
    pub fn set(&mut self, name: &str, value: SpopValue<'_>) {
        self.0.extend_from_slice(&SET_VARIABLE);
        self.0.push(TRANSACTION);
        put_text(self.0, name.as_bytes());
        let start = self.0.len() - name.len();
        for byte in &mut self.0[start..] {
            if !byte.is_ascii_alphanumeric() && *byte != b'.' {
                *byte = b'_';
            }
        }
        value.put(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_set_variables_of_the_transaction() {
        let mut out = Vec::new();
        let mut actions = ActionList::new(&mut out);
        actions.set("ok", SpopValue::Flag(true));
        actions.set("x-a.b~c", SpopValue::Text(b"v"));
        assert_eq!(out, b"\x01\x03\x02\x02ok\x11\x01\x03\x02\x07x_a.b_c\x08\x01v");
    }
}
