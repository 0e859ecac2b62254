//! `[limits]`: limits of request heads.

use std::collections::BTreeMap;

use countersign_front::RequestLimits;

use super::{problem::Problems, reader::SectionReader, setting::Section};

pub(super) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> RequestLimits {
    let mut reader = SectionReader::new(sections, "limits", problems);
    RequestLimits {
        head_bytes: reader.number("max_head"),
        header_lines: reader.number("max_header_lines"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_limits_default_to_those_of_the_front() {
        let limits = read(&BTreeMap::new(), &mut Problems::default());
        assert_eq!(limits, RequestLimits::default());
    }
}
