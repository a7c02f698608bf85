//! Tests of the whole of trust, by what they protect against. Each refusal stands beside an acceptance that differs in
//! nothing else.

mod chains;
pub(crate) mod pki;
