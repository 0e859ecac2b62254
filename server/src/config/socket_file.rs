//! `mode` and `group`: permissions of Unix sockets.

use countersign_front::{ListenAddress, accept::SocketPermissions};
use nix::unistd::Group;

use super::reader::SectionReader;
use crate::base::redacted::quoted;

/// Reads the permissions of the Unix sockets among these addresses.
pub(super) fn read(
    reader: &mut SectionReader<'_>,
    addresses: &[ListenAddress],
) -> SocketPermissions {
    let has_unix = addresses.iter().any(|address| address.address().is_none());
    for option in ["mode", "group"] {
        if !has_unix && !addresses.is_empty() && reader.given(option).is_some() {
            let text =
                format!("{option} in {} has no effect without a Unix socket", reader.section);
            reader.warn(option, text, "remove it, or add an address such as unix:/run/a.sock");
        }
    }
    read_permissions(reader)
}

/// Reads the permissions of the Unix sockets of a section.
pub(crate) fn read_permissions(reader: &mut SectionReader<'_>) -> SocketPermissions {
    SocketPermissions {
        mode: read_mode(reader).unwrap_or_else(|| SocketPermissions::default().mode),
        group: read_group(reader),
    }
}

fn read_mode(reader: &mut SectionReader<'_>) -> Option<u32> {
    let text = reader.given("mode")?;
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
    match mode {
        None => {
            let message = format!("mode {} is not an octal number up to 0777", quoted(text));
            reader.error("mode", message, "write one such as 0660");
        }
        Some(mode) if mode & 0o222 == 0 => {
            let message = format!("with mode {} no client can connect", quoted(text));
            reader.error("mode", message, "clients need write permission: write one such as 0660");
        }
        Some(_) => {}
    }
    mode
}

fn read_group(reader: &mut SectionReader<'_>) -> Option<u32> {
    let text = reader.given("group")?;
    // The highest number means that the group is left as it is.
    if let Some(number) = text.parse().ok().filter(|number| *number != u32::MAX) {
        return Some(number);
    }
    let group = Group::from_name(text).ok().flatten().map(|group| group.gid.as_raw());
    if group.is_none() {
        let message = format!("group {} does not exist on this machine", quoted(text));
        reader.error("group", message, "write the name or the number of a group");
    }
    group
}
