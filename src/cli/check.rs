//! `countersign check`: loads what a run would load, and says what is wrong or unwise with it.

use super::exit;
use crate::config::Config;
use clap::Args;
use std::path::PathBuf;

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE")]
    config: PathBuf,
    /// Print one JSON object in place of text
    #[arg(long)]
    json: bool,
}

/// Answers the exit code.
pub fn check(args: CheckArgs) -> u8 {
    match Config::from_file(&args.config) {
        Ok(_) => exit::OK,
        Err(faults) => {
            for fault in faults {
                println!("{fault}");
            }
            exit::CONFIG
        }
    }
}
