//! `[endpoints]`: the endpoint file.

use std::{collections::BTreeMap, path::PathBuf};

use super::EndpointTable;
use crate::{
    base::watched_file::read_text,
    config::{problem::Problems, reader::SectionReader, setting::Section},
};

/// Reads the endpoint table: the API of this server, and those of `file`, which is returned too.
pub(crate) fn read(
    sections: &BTreeMap<String, Section>,
    problems: &mut Problems,
) -> (EndpointTable, Option<PathBuf>) {
    const OPTION: &str = "file";
    let mut reader = SectionReader::new(sections, "endpoints", problems);
    let mut table = EndpointTable::of_api();
    let Some(path) = reader.given(OPTION).map(PathBuf::from) else { return (table, None) };
    let shown = path.display();
    match read_text(&path, MAX_FILE_BYTES) {
        Ok(text) => {
            if let Err(error) = table.add_file(&text) {
                reader.error(OPTION, format!("{shown}: {error}"), HELP);
            }
        }
        Err(error) => reader.error(OPTION, format!("cannot read {shown}: {error}"), HELP),
    }
    (table, Some(path))
}

const HELP: &str = "countersign endpoints import openapi.json prints a valid file";
pub(crate) const MAX_FILE_BYTES: u64 = 16 << 20;
