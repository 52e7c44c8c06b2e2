#!/bin/sh
# Builds the .deb into target/debian: src/assets/debian/package.sh [--no-build]
# Needs cargo-deb (cargo install cargo-deb --version 3.8.0) and dpkg-dev.
set -e
cd "$(dirname "$0")/../../.."
target="${CARGO_TARGET_DIR:-target}"
[ "$1" = --no-build ] || cargo build --release --locked
program="$target/release/iii-stream"
out=target/package # the paths in Cargo.toml
mkdir -p "$out"
"$program" print man > "$out/iii-stream.1"
"$program" print completions bash > "$out/iii-stream.bash"
"$program" print completions zsh > "$out/_iii-stream"
"$program" print completions fish > "$out/iii-stream.fish"
cargo deb --no-build --locked
