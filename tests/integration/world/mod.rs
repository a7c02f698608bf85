//! What every test stands on: a directory of its own, its own certificates, the program under test on ports of the
//! system's choosing, clients and backends under the test's control.

pub mod backend;
pub mod client;
pub mod config;
pub mod http;
pub mod manager;
pub mod peers;
pub mod pki;
pub mod process;
pub mod proxy;
pub mod server;
pub mod wait;

use backend::{Backend, Script};
use config::ConfigText;
use pki::Pki;
use server::Server;
use std::path::{Path, PathBuf};

/// A directory with the standard certificates in it; removed at the end.
pub struct World {
    dir: tempfile::TempDir,
    pub pki: Pki,
}

/// The path that connections of this version (`1.2` or `1.3`) must take in this run, if anybody says so:
/// `COUNTERSIGN_TEST_PATHS=1.2=splice,1.3=user`, as `tests/vm` does.
pub fn path_of(version: &str) -> Option<String> {
    let paths = std::env::var("COUNTERSIGN_TEST_PATHS").ok()?;
    paths.split(',').find_map(|path| path.strip_prefix(version)?.strip_prefix('=')).map(str::to_owned)
}

/// Whether the kernel has the keys of such connections in this run.
pub fn goes_by_kernel(version: &str) -> bool {
    path_of(version).is_some_and(|path| path != "user")
}

impl World {
    /// With `server.pem`, `server.key`, `server-ca.pem`, `clients-ca.pem`, `client.pem` and `client.key`.
    pub fn new() -> World {
        let world = World { dir: tempfile::tempdir().unwrap(), pki: Pki::new() };
        world.pki.server.write(world.path(), "server");
        world.pki.client.write(world.path(), "client");
        world.write("server-ca.pem", &world.pki.server_ca.pem);
        world.write("clients-ca.pem", &world.pki.client_ca.pem);
        world
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into the directory.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts the server with this configuration.
    pub fn serve(&self, config: &ConfigText) -> Server {
        Server::start(self.path(), &config.write(self.path()))
    }

    /// `false`, with a printed reason, while the program itself says that it does not know this configuration yet. What
    /// it neither knows nor refuses is a fault, and so everything else counts as supported.
    pub fn supports(&self, config: &ConfigText) -> bool {
        config.write(self.path());
        let output = process::run(server::command(self.path()).args(["check", "-c", "countersign.toml"]));
        let told = output.text();
        let unsupported = told.lines().find(|line| line.contains("not yet supported"));
        if let Some(line) = unsupported {
            println!("skipped: {line}");
        }
        unsupported.is_none()
    }

    /// A TCP backend with this script, and the server before it in its standard configuration.
    pub fn serve_before(&self, script: Script) -> (Server, Backend) {
        let backend = Backend::tcp(script);
        (self.serve(&ConfigText::new(&backend.server)), backend)
    }
}
