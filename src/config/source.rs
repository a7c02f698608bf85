//! Reads the bytes of the configuration file, and says clearly what they are where they are not text.

use super::fault::{Fault, FaultKind};
use super::limits;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The whole text of the file, at most [`limits::CONFIG_BYTES_MAX`] bytes.
pub(super) fn read(path: &Path) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| cannot_read(path, &error))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Fault::config("", "is a directory", "give the path of a configuration file").at(path));
    }
    // One byte more than allowed tells a file that is too long from one that just fits, whatever its metadata say.
    file.take(limits::CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| cannot_read(path, &error))?;
    if bytes.len() as u64 > limits::CONFIG_BYTES_MAX {
        let message = format!("is larger than {} MiB", limits::CONFIG_BYTES_MAX >> 20);
        return Err(Fault::config("", &message, "give the path of a configuration file").at(path));
    }
    decode(bytes).map_err(|fault| fault.at(path))
}

/// UTF-8 without NUL.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, Fault> {
    let line_at = |bytes: &[u8], end: usize| Some(1 + bytes[..end].iter().filter(|byte| **byte == b'\n').count());
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        let fault = Fault::config("", "has a NUL byte", "save the file as plain text in UTF-8");
        return Err(fault.on_line(line_at(&bytes, at)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = line_at(error.as_bytes(), error.utf8_error().valid_up_to());
        Fault::config("", "is not UTF-8", "save the file as plain text in UTF-8").on_line(line)
    })
}

fn cannot_read(path: &Path, error: &std::io::Error) -> Fault {
    let (message, help, kind) = match error.kind() {
        ErrorKind::NotFound => {
            ("does not exist".to_owned(), "give the path of a configuration file", FaultKind::Config)
        }
        ErrorKind::PermissionDenied => {
            let help = "make the file and its directories readable for the user that runs this";
            ("may not be read".to_owned(), help, FaultKind::Permission)
        }
        _ => (format!("cannot be read: {error}"), "give the path of a configuration file", FaultKind::Config),
    };
    Fault::config("", &message, help).of_kind(kind).at(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault_of(bytes: &[u8]) -> Fault {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        std::fs::write(&path, bytes).unwrap();
        read(&path).unwrap_err()
    }

    #[test]
    fn reads_a_file_of_text() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        std::fs::write(&path, "a = \"ä\"\n").unwrap();
        assert_eq!(read(&path).unwrap(), "a = \"ä\"\n");
    }

    #[test]
    fn says_on_which_line_a_file_is_not_text() {
        let nul = fault_of(b"a = 1\n\nb = \"\0\"\n");
        assert_eq!((nul.line, nul.message.as_str()), (Some(3), "has a NUL byte"));
        let latin = fault_of(b"a = 1\nb = \"\xe4\"\n");
        assert_eq!((latin.line, latin.message.as_str()), (Some(2), "is not UTF-8"));
    }

    #[test]
    fn refuses_a_file_one_byte_too_long_and_takes_the_longest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.toml");
        let longest = vec![b'#'; usize::try_from(limits::CONFIG_BYTES_MAX).unwrap()];
        std::fs::write(&path, &longest).unwrap();
        assert!(read(&path).is_ok());
        let fault = fault_of(&[longest, vec![b'#']].concat());
        assert!(fault.message.contains("larger than 4 MiB"), "{fault}");
    }

    #[test]
    fn a_missing_file_and_a_directory_are_faults_of_the_configuration() {
        let directory = tempfile::tempdir().unwrap();
        let missing = read(&directory.path().join("no.toml")).unwrap_err();
        assert_eq!((missing.kind, missing.message.as_str()), (FaultKind::Config, "does not exist"));
        let itself = read(directory.path()).unwrap_err();
        assert_eq!((itself.kind, itself.message.as_str()), (FaultKind::Config, "is a directory"));
    }

    #[test]
    fn a_file_that_may_not_be_read_is_a_fault_of_permission() {
        let fault = cannot_read(Path::new("c.toml"), &ErrorKind::PermissionDenied.into());
        assert_eq!(fault.kind, FaultKind::Permission);
    }
}
