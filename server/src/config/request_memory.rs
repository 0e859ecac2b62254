//! `[limits]`: bounds of the memory held by requests in progress.

use std::collections::BTreeMap;

use countersign_front::MemoryLimits;

use super::{problem::Problems, reader::SectionReader, setting::Section};

const PROCESS: &str = "request_memory";
const SOURCE: &str = "request_memory_per_source";
const CONNECTION: &str = "request_memory_per_connection";

pub(super) fn read(sections: &BTreeMap<String, Section>, problems: &mut Problems) -> MemoryLimits {
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
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_limits_default_to_those_of_the_front() {
        let limits = read(&BTreeMap::new(), &mut Problems::default());
        assert_eq!(limits, MemoryLimits::default());
    }
}
