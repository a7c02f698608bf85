//! The systemd unit: as hard as it says, and the program serves under it.

use crate::hand_over::{exit_code, handed_over};
use crate::world::World;
use crate::world::backend::{Backend, echo};
use crate::world::client::{Client, ClientSpec};
use crate::world::config::ConfigText;
use crate::world::pki::SERVER_NAME;
use crate::world::process::{needs, run};
use crate::world::server::{Server, binary};
use std::path::{Path, PathBuf};
use std::process::Command;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_unit_is_rated_at_most_one_and_a_half() {
    if !needs("systemd-analyze") {
        return;
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--threshold=15"]).arg(here("systemd/countersign.service"));
    let rated = run(&mut command);
    assert_eq!(rated.code, Some(0), "{}", rated.text());
    assert!(rated.stdout.contains("Overall exposure level"), "{}", rated.text());
}

#[test]
fn under_the_units_system_call_filter_clients_are_served_files_reloaded_and_a_new_program_takes_over() {
    if !needs("systemd-analyze") || !needs("python3") {
        return;
    }
    if !Path::new("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").exists() {
        println!("skipped: the kernel's header with the numbers of x86-64 is not installed");
        return;
    }
    let world = World::new();
    let backend = Backend::tcp(echo());
    let config = ConfigText::new(&backend.server).admin().runtime("state_dir = \"state\"").write(world.path());
    let lacks_landlock = |server: &Server| server.process.stderr.text().contains("not confined");
    let unfiltered = Server::start(world.path(), &config);
    let kernel_lacks_landlock = lacks_landlock(&unfiltered);
    unfiltered.stop();
    let mut command = Command::new("python3");
    command.current_dir(world.path()).env_remove("NOTIFY_SOCKET").arg(here("tests/integration/units/filtered.py"));
    command.arg(here("systemd/countersign.service")).arg(binary()).args(["run", "-c"]).arg(config);
    let mut server = Server::from_command(world.path(), &mut command);
    assert_eq!(lacks_landlock(&server), kernel_lacks_landlock, "the filter lets Landlock through");
    let tls = ClientSpec::new(&world.pki).build();
    let address = server.address();
    let visit = || Client::connect(&tls, SERVER_NAME, address).echo(b"under the filter").unwrap();
    visit();
    server.ctl_done(&["reload"]);
    server.ctl_done(&["block", "--identity", "cn:somebody-else"]);
    visit();
    let successor = handed_over(&server);
    assert_eq!(exit_code(&mut server), 0);
    visit();
    successor.stop();
}
