//! The file of this library, which may be replaced while the process runs. A proxy that reloads its
//! configuration goes on with the code that it has loaded.

use std::{path::Path, ptr};

use crate::base::watched_file::read_text;

/// Logs a warning if the file that this code was loaded from was removed or replaced.
pub(super) fn warn_if_replaced() {
    /// The largest list of mappings that is read, in bytes.
    const MAX_BYTES: u64 = 4 * 1024 * 1024;
    /// Constant data of this library.
    static MARK: u8 = 1;
    let Ok(mappings) = read_text(Path::new("/proc/self/maps"), MAX_BYTES) else { return };
    if let Some(file) = deleted_file(&mappings, ptr::from_ref(&MARK).addr()) {
        tracing::warn!(
            "{file} was replaced or removed after this process has loaded it, and a reload keeps \
             the code that is loaded: restart the proxy"
        );
    }
}

/// Returns the file that is mapped at an address, if it was deleted, by the lines of
/// `/proc/self/maps` (proc_pid_maps(5)).
fn deleted_file(mappings: &str, address: usize) -> Option<&str> {
    let has_address = |line: &&str| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let parse = |text| usize::from_str_radix(text, 16);
        range.is_some_and(|(start, end)| {
            parse(start).is_ok_and(|start| start <= address)
                && parse(end).is_ok_and(|end| address < end)
        })
    };
    let line = mappings.lines().find(has_address)?;
    line.get(line.find('/')?..)?.strip_suffix(" (deleted)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deleted_file_is_that_of_the_mapping() {
        let mappings = "1000-2000 r--p 00000000 08:01 17                         /lib/a.so\n\
                        2000-3000 r-xp 00001000 08:01 18                 /lib/b c.so (deleted)\n\
                        3000-4000 rw-p 00000000 00:00 0\n";
        let expected = [None, None, Some("/lib/b c.so"), Some("/lib/b c.so"), None, None];
        let addresses = [0xfff, 0x1fff, 0x2000, 0x2fff, 0x3000, 0x4000];
        assert_eq!(addresses.map(|address| deleted_file(mappings, address)), expected);
    }
}
