//! Which files a configuration is made of.

use super::model::{Advertise, Client, Config};
use std::collections::BTreeSet;
use std::path::Path;

impl Config {
    /// The configuration's own file and every file that it names to be read, each once: those whose change is a reason
    /// to load it again.
    pub fn files(&self) -> BTreeSet<&Path> {
        let own = self.file.iter().chain(&self.tickets.secret_files);
        let certificates = self.sites.iter().flat_map(|site| &site.certificates);
        let certificates = certificates.flat_map(|entry| [&entry.chain, &entry.key].into_iter().chain(&entry.ocsp));
        let of_clients = self.sites.iter().flat_map(|site| client_files(&site.client));
        own.map(AsRef::as_ref).chain(certificates.map(AsRef::as_ref)).chain(of_clients).collect()
    }
}

fn client_files(client: &Client) -> impl Iterator<Item = &Path> {
    let advertised: &[_] = match &client.advertise {
        Advertise::Files(files) => files,
        Advertise::Trust | Advertise::None => &[],
    };
    let of_authorities = client.authorities.iter().flat_map(|authority| authority.trust.iter().chain(&authority.crls));
    advertised.iter().chain(&client.intermediates).chain(of_authorities).map(AsRef::as_ref)
}

#[cfg(test)]
mod tests {
    use super::super::tests::LEAST;
    use super::*;

    #[test]
    fn every_file_that_is_read_is_named_once_and_the_audit_is_not() {
        let text = LEAST.replace("key = \"server.key\" }", "key = \"server.key\", ocsp = \"server.ocsp\" }").replace(
            "[site.client]",
            "[site.client]\ncrls = [\"a.crl\"]\nadvertise = [\"clients-ca.pem\"]\nintermediates = [\"i.pem\"]",
        );
        let text = format!("[audit]\npath = \"a.jsonl\"\n[tickets]\nsecret_files = [\"fleet.secret\"]\n{text}");
        let config = Config::from_text(&text, Some(Path::new("/etc/c/c.toml"))).unwrap();
        let files: Vec<_> = config.files().into_iter().map(|path| path.strip_prefix("/etc/c").unwrap()).collect();
        let expected =
            ["a.crl", "c.toml", "clients-ca.pem", "fleet.secret", "i.pem", "server.key", "server.ocsp", "server.pem"];
        assert_eq!(files, expected.map(Path::new));
    }
}
