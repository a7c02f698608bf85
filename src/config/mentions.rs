//! Where the configuration names which file, so that a fault found in a file later is said at the line that names it.

use super::fault::Fault;
use super::model::Config;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Places by the path that is named there. Empty for the flag form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Dotted key and line, in the order of reading.
    places: HashMap<PathBuf, Vec<(String, usize)>>,
}

impl Mentions {
    pub(super) fn note(&mut self, path: &Path, key: &str, line: usize) {
        self.places.entry(path.to_owned()).or_default().push((key.to_owned(), line));
    }

    /// The place that names this path under a key like this one, else the first that names it.
    fn find(&self, path: &Path, key: &str) -> Option<&(String, usize)> {
        let places = self.places.get(path)?;
        places.iter().find(|(named, _)| without_indices(named) == without_indices(key)).or(places.first())
    }
}

impl Config {
    /// The same fault, placed on the line that names its file. A fault without a file is the configuration's own; one of
    /// a file that is not named there stays as it is.
    pub fn locate(&self, fault: Fault) -> Fault {
        let Some(path) = fault.file.as_deref() else { return Fault { file: self.file.clone(), ..fault } };
        let Some((key, line)) = self.mentions.find(path, &fault.key) else { return fault };
        let inside = fault.line.map(|line| format!(":{line}")).unwrap_or_default();
        Fault {
            message: format!("{}{inside}: {}", path.display(), fault.message),
            file: self.file.clone(),
            line: Some(*line),
            key: key.clone(),
            ..fault
        }
    }
}

/// `site[1].certificate[0].chain` is `site.certificate.chain`.
fn without_indices(key: &str) -> String {
    let mut inside = false;
    let mut outside = |c: char| {
        inside = (inside || c == '[') && c != ']';
        !inside && c != ']'
    };
    key.chars().filter(|c| outside(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::LEAST;
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_text(text, Some(Path::new("/etc/countersign/c.toml"))).unwrap()
    }

    #[test]
    fn a_fault_of_a_named_file_is_said_at_the_line_that_names_it() {
        let fault = Fault::config("site.client.trust", "has no certificate", "write one");
        let fault = fault.at(Path::new("/etc/countersign/clients-ca.pem")).on_line(Some(3));
        assert_eq!(
            config(LEAST).locate(fault).to_string(),
            "/etc/countersign/c.toml:7: site.client.trust[0]: /etc/countersign/clients-ca.pem:3: has no certificate; write one"
        );
    }

    #[test]
    fn a_path_named_twice_is_said_at_the_key_of_the_fault() {
        let config = config(&LEAST.replace("server.pem", "both.pem").replace("server.key", "both.pem"));
        let fault = Fault::config("site.certificate.key", "has no key", "").at(Path::new("/etc/countersign/both.pem"));
        assert_eq!(config.locate(fault).key, "site.certificate[0].key");
    }

    #[test]
    fn other_faults_stay_where_they_are() {
        let own = Fault::config("log.level", "m", "h").at(Path::new("/etc/countersign/c.toml")).on_line(Some(1));
        let other = Fault::config("", "m", "h").at(Path::new("/elsewhere"));
        for fault in [own.clone(), other] {
            assert_eq!(config(LEAST).locate(fault.clone()), fault);
        }
        let unplaced = Fault::config("log.level", "m", "h").on_line(Some(1));
        assert_eq!(config(LEAST).locate(unplaced), own);
    }

    #[test]
    fn indices_are_left_out_of_a_key() {
        assert_eq!(without_indices("site[1].certificate[0].chain"), "site.certificate.chain");
        assert_eq!(without_indices("site.client.trust"), "site.client.trust");
    }
}
