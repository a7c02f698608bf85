//! Trust as users meet it: who gets in, who comes back, who does not any more, and what stands in the audit of it.

mod agreement;
mod authorities;
mod chains;
mod issue;
mod matrix;
mod modes;
mod outcome;
mod revocation;
mod running_out;
mod server_certificates;
mod sites;
mod stage;
