//! Claims what is not so, that no bytes are a whole PROXY header. `fuzz/run` demands that this is found out from nothing:
//! a build whose instrumentation does not guide, or whose crashes are not seen, fails there.
#![no_main]

use countersign::wire::proxy::{Parsed, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| assert!(!matches!(parse(data), Ok(Parsed::Header(_))), "found it"));
