//! Whole configurations, the refusal beside the acceptance.

use super::{Config, Fault};

/// The least that runs.
pub(super) const LEAST: &str = r#"
[[listener]]
address = ["127.0.0.1:0"]
[[site]]
certificate = [{ chain = "server.pem", key = "server.key" }]
[site.client]
trust = ["clients-ca.pem"]
[[backend]]
servers = ["127.0.0.1:9000"]
"#;

pub(super) fn faults_of(text: &str) -> Vec<Fault> {
    Config::from_text(text, None).err().unwrap_or_default()
}
