//! `pki.json`: what the CA issued and revoked. It is written last, so that a directory without it holds no CA.

use super::failure::PkiError;
use super::files::{self, Overwrite, Readers, Staged};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Its name in the CA's directory.
pub(super) const FILE: &str = "pki.json";

/// The form that this program writes.
const VERSION: u32 = 1;

/// All that the CA remembers beside its keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Registry {
    version: u32,
    /// Number of the last CRLs.
    pub(super) crl_number: u64,
    pub(super) certificates: Vec<Issued>,
}

/// One certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Issued {
    /// Lower-case hex.
    pub(super) serial: String,
    pub(super) issuer: Signer,
    /// `intermediate`, `server`, `client`, or `unknown` for one that was revoked by its file alone.
    pub(super) kind: String,
    pub(super) subject: String,
    /// RFC 3339.
    pub(super) not_after: String,
    /// How it was made wrong, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) broken: Option<String>,
    pub(super) revoked: Option<Revoked>,
}

/// Which of the two CAs signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Signer {
    Root,
    Intermediate,
}

/// When and why.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Revoked {
    /// Seconds since the Unix epoch.
    pub(super) at: i64,
    /// RFC 5280's name of the reason.
    pub(super) reason: String,
}

impl Registry {
    pub(super) fn new() -> Registry {
        Registry { version: VERSION, crl_number: 0, certificates: Vec::new() }
    }

    pub(super) fn load(dir: &Path) -> Result<Registry, PkiError> {
        let path = dir.join(FILE);
        let help = "restore the file, or make a new CA with pki init";
        let registry: Registry =
            serde_json::from_slice(&files::read(&path)?).map_err(|error| PkiError::broken_file(&path, error, help))?;
        if registry.version != VERSION {
            return Err(PkiError::broken_file(&path, "written by another version of countersign", "use that version"));
        }
        Ok(registry)
    }

    /// Writes it aside as a part of `staged`.
    pub(super) fn stage(&self, dir: &Path, staged: &mut Staged, overwrite: Overwrite) -> Result<(), PkiError> {
        let path = dir.join(FILE);
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|error| PkiError::broken_file(&path, error, "this is a fault of countersign: report it"))?;
        json.push(b'\n');
        staged.put(&path, &json, Readers::Everybody, overwrite)
    }
}
