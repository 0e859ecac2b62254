//! `[limits]`: bounds of the memory held by requests in progress.

use std::collections::BTreeMap;

use countersign_engine::limits::MAX_TOKEN_BYTES;
use countersign_front::MemoryLimits;

use super::{problem::Problems, reader::SectionReader, setting::Section};

const PROCESS: &str = "request_memory";
const SOURCE: &str = "request_memory_per_source";
const CONNECTION: &str = "request_memory_per_connection";

/// Reads the bounds, which have room for a request with a head of `head_bytes`.
pub(super) fn read(
    sections: &BTreeMap<String, Section>,
    head_bytes: usize,
    problems: &mut Problems,
) -> MemoryLimits {
    let mut reader = SectionReader::new(sections, "limits", problems);
    let limits = MemoryLimits {
        process: reader.number(PROCESS),
        source: reader.number(SOURCE),
        connection: reader.number(CONNECTION),
    };
    for (share, bytes, whole, bound) in [
        (CONNECTION, limits.connection, SOURCE, limits.source),
        (SOURCE, limits.source, PROCESS, limits.process),
    ] {
        if bytes > bound {
            let text = format!("{share} = {bytes} is more than {whole}, which is {bound}");
            reader.error(share, text, &format!("lower {share}, or raise {whole} in [limits]"));
        }
    }
    // The buffer of a body is up to twice as long as the body.
    let needed = 2 * (head_bytes + 4 * MAX_TOKEN_BYTES);
    if limits.connection < needed {
        let text = format!(
            "{CONNECTION} = {} is too little for one request with max_head = {head_bytes}",
            limits.connection
        );
        let help = format!("set {CONNECTION} in [limits] to {needed} or more");
        reader.error(CONNECTION, text, &help);
    }
    limits
}

#[cfg(test)]
mod tests {
    use countersign_front::RequestLimits;

    use super::*;
    use crate::config::setting::Setting;

    #[test]
    fn memory_limits_default_to_those_of_the_front() {
        let mut problems = Problems::default();
        let limits = read(&BTreeMap::new(), RequestLimits::default().head_bytes, &mut problems);
        assert_eq!((limits, problems.0.len()), (MemoryLimits::default(), 0));
    }

    #[test]
    fn shares_fit_into_each_other_and_a_request_into_them() {
        let errors = |option: &str, text: &str, head_bytes| {
            let setting = Setting { text: text.into(), place: "f:1".into() };
            let section =
                Section { settings: [(option.into(), setting)].into(), ..Section::default() };
            let mut problems = Problems::default();
            read(&[("limits".into(), section)].into(), head_bytes, &mut problems);
            problems.to_string()
        };
        assert_eq!(errors(CONNECTION, "262144", 65_536), "");
        let head = errors(CONNECTION, "262144", 65_537);
        assert!(head.contains("too little for one request with max_head = 65537"), "{head}");
        let source = errors(SOURCE, "1048575", 65_536);
        assert!(source.contains("is more than request_memory_per_source"), "{source}");
        let process = errors(PROCESS, "8388607", 65_536);
        assert!(process.contains("is more than request_memory, which is 8388607"), "{process}");
    }
}
