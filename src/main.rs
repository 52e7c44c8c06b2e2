//! The process: arguments → Config → Server::start → wait → exit code.
fn main() {}
