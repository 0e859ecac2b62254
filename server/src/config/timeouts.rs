//! `[limits]`: timeouts of connections, and their maximum number.

use std::collections::BTreeMap;

use countersign_front::Timeouts;

use super::{problem::Problems, reader::SectionReader, setting::Section};

pub(super) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> Timeouts {
    let mut reader = SectionReader::new(sections, "limits", problems);
    Timeouts {
        head: reader.seconds("head_timeout"),
        body: reader.seconds("body_timeout"),
        idle: reader.seconds("idle_timeout"),
        drain: reader.seconds("drain_timeout"),
        connections: reader.number("connections"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_default_to_those_of_the_front() {
        assert_eq!(read(&BTreeMap::new(), &mut Problems::default()), Timeouts::default());
    }
}
