//! Tests of the whole of trust, by what they protect against. Each refusal stands beside an acceptance that differs in
//! nothing else.

mod caches;
mod chains;
mod crls;
mod files;
mod hostile;
mod modes;
mod openssl;
pub(crate) mod pki;
mod rules;
