//! One integration binary, one file for each behaviour.
