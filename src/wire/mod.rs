//! Formats to and from others, pure: PROXY protocol v1 and v2, audit lines.

#![forbid(unsafe_code)]

pub mod audit;
pub mod proxy;
