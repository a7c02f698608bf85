//! Writes configuration files: sound defaults for a test, and room for the lines that it wants to add to each table.

use super::wait::slowness;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// One configuration. Each `*_lines` field is TOML put into that table as it stands.
#[derive(Debug, Clone)]
pub struct ConfigText {
    pub top: String,
    pub runtime: String,
    pub admin: Option<String>,
    pub audit: Option<String>,
    pub tickets: String,
    pub listeners: Vec<ListenerText>,
    pub sites: Vec<SiteText>,
    pub backends: Vec<BackendText>,
}

#[derive(Debug, Clone)]
pub struct ListenerText {
    pub name: String,
    pub lines: String,
    pub limits: String,
}

#[derive(Debug, Clone)]
pub struct SiteText {
    pub lines: String,
    pub tls: String,
    pub client: String,
    /// Further tables of the site, headers included.
    pub more: String,
}

#[derive(Debug, Clone)]
pub struct BackendText {
    pub name: String,
    pub servers: Vec<String>,
    pub lines: String,
}

impl BackendText {
    pub fn new(name: &str, servers: &[&str]) -> BackendText {
        let servers = servers.iter().map(|server| (*server).to_owned()).collect();
        BackendText { name: name.to_owned(), servers, lines: String::new() }
    }
}

impl ListenerText {
    pub fn new(name: &str) -> ListenerText {
        let lines = "address = [\"127.0.0.1:0\"]".to_owned();
        ListenerText { name: name.to_owned(), lines, limits: String::new() }
    }
}

impl SiteText {
    /// A site with the standard files `server.pem`, `server.key` and `clients-ca.pem`.
    pub fn new(backend: &str) -> SiteText {
        SiteText {
            lines: format!(
                "backend = \"{backend}\"\ncertificate = [{{ chain = \"server.pem\", key = \"server.key\" }}]"
            ),
            tls: String::new(),
            client: "trust = [\"clients-ca.pem\"]".to_owned(),
            more: String::new(),
        }
    }

    pub fn add(mut self, line: &str) -> SiteText {
        push_line(&mut self.lines, line);
        self
    }
}

impl ConfigText {
    /// One listener, one catch-all site that demands a certificate, one backend with one server; two workers, an audit
    /// file and a log.
    pub fn new(server: &str) -> ConfigText {
        ConfigText {
            top: String::new(),
            runtime: "drain_timeout = \"10s\"".to_owned(),
            admin: None,
            audit: Some("path = \"audit.jsonl\"".to_owned()),
            tickets: String::new(),
            listeners: vec![ListenerText::new("public")],
            sites: vec![SiteText::new("ledger").add("name = \"payments\"")],
            backends: vec![BackendText::new("ledger", &[server])],
        }
    }

    pub fn runtime(mut self, line: &str) -> ConfigText {
        push_line(&mut self.runtime, line);
        self
    }

    pub fn replace_runtime(mut self, text: &str) -> ConfigText {
        text.clone_into(&mut self.runtime);
        self
    }

    pub fn tickets(mut self, line: &str) -> ConfigText {
        push_line(&mut self.tickets, line);
        self
    }

    pub fn limits(mut self, line: &str) -> ConfigText {
        push_line(&mut self.listeners[0].limits, line);
        self
    }

    pub fn tls(mut self, line: &str) -> ConfigText {
        push_line(&mut self.sites[0].tls, line);
        self
    }

    pub fn site(mut self, line: &str) -> ConfigText {
        push_line(&mut self.sites[0].lines, line);
        self
    }

    pub fn client(mut self, line: &str) -> ConfigText {
        push_line(&mut self.sites[0].client, line);
        self
    }

    pub fn backend(mut self, line: &str) -> ConfigText {
        push_line(&mut self.backends[0].lines, line);
        self
    }

    /// Turns the admin interfaces on: HTTP on a port of the system's choosing, and `admin.sock`.
    pub fn admin(mut self) -> ConfigText {
        self.admin = Some("http = \"127.0.0.1:0\"\nsocket = \"admin.sock\"".to_owned());
        self
    }

    /// The whole text. `COUNTERSIGN_ENGINE` says what serves where the test does not.
    pub fn render(&self) -> String {
        let mut text = format!("{}\n", self.top);
        let mut runtime = self.runtime.clone();
        // The same tests over another path: `tests/vm` sets it.
        if let Some(ktls) = std::env::var("COUNTERSIGN_TEST_KTLS").ok().filter(|_| !runtime.contains("ktls")) {
            push_line(&mut runtime, &format!("ktls = \"{ktls}\""));
        }
        if let (Ok(engine), false) = (std::env::var("COUNTERSIGN_ENGINE"), runtime.contains("engine =")) {
            push_line(&mut runtime, &format!("engine = \"{engine}\""));
        }
        table(&mut text, "[runtime]", &runtime);
        if let Some(admin) = &self.admin {
            table(&mut text, "[admin]", admin);
        }
        if let Some(audit) = &self.audit {
            table(&mut text, "[audit]", audit);
        }
        table(&mut text, "[tickets]", &self.tickets);
        for listener in &self.listeners {
            let mut lines = format!("name = \"{}\"\n{}", listener.name, listener.lines);
            // And which direction of each connection goes over it, and how.
            if let Ok(more) = std::env::var("COUNTERSIGN_TEST_LISTENER") {
                push_line(&mut lines, &more.replace(';', "\n"));
            }
            table(&mut text, "[[listener]]", &lines);
            let mut limits = listener.limits.clone();
            if slowness() > 1 && !limits.contains("handshake_timeout") {
                push_line(&mut limits, &format!("handshake_timeout = \"{}s\"", 10 * slowness()));
            }
            table(&mut text, "[listener.limits]", &limits);
        }
        for site in &self.sites {
            table(&mut text, "[[site]]", &site.lines);
            table(&mut text, "[site.tls]", &site.tls);
            table(&mut text, "[site.client]", &site.client);
            text.push_str(&site.more);
            text.push('\n');
        }
        for backend in &self.backends {
            let servers: Vec<String> = backend.servers.iter().map(|server| format!("{server:?}")).collect();
            let mut head =
                format!("name = \"{}\"\nservers = [{}]\n{}", backend.name, servers.join(", "), backend.lines);
            if slowness() > 1 && !head.contains("connect_timeout") {
                push_line(&mut head, &format!("connect_timeout = \"{}s\"", slowness()));
            }
            table(&mut text, "[[backend]]", &head);
        }
        text
    }

    /// Writes the text to `countersign.toml` in `dir`.
    pub fn write(&self, dir: &Path) -> PathBuf {
        let path = dir.join("countersign.toml");
        std::fs::write(&path, self.render()).unwrap();
        path
    }
}

fn push_line(text: &mut String, line: &str) {
    writeln!(text, "\n{line}").unwrap();
}

fn table(text: &mut String, head: &str, lines: &str) {
    writeln!(text, "{head}\n{lines}").unwrap();
}
