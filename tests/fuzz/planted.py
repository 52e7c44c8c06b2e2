#!/usr/bin/env python3
"""Whether fuzzing finds what it is for: one bug for each target is planted in a copy of the tree, and each
has to be found in a minute from the inputs that are kept. By hand: tests/fuzz/planted.py [TARGET...].
The copy is built once: the bugs stand in different readers."""

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPY = ROOT / "tests/fuzz/target/planted"
SECONDS = "60"

# Target, file, what stands there, and what is put in its place.
BUGS = [
    ("frames", "src/protocol/connection/mod.rs", "(DataKind::Continuation, Some(message)) => message.payload.len(),", "(DataKind::Continuation, Some(_)) => 0,"),
    ("head", "src/protocol/handshake/mod.rs", "self.line_start = line_end + 1;", "self.line_start = line_end.max(1);"),
    ("join", "src/protocol/message.rs", 'None | Some("null") => None,', 'None | Some("null" | "\\"\\"") => None,'),
    ("call", "src/protocol/call/fields.rs", 'self.values[field as usize].filter(|value| value.get() != "null")', 'self.values[field as usize].filter(|value| !value.get().starts_with("nu") && value.get().len() != 7)'),
    ("update", "src/shard/update/sparse.rs", "b'}' | b']' if self.depth == 0 => return (at, true),", "b']' if self.depth == 0 => return (at, true),"),
    ("config", "src/config/quantity.rs", ".map(|digits| i128::from(digits) * i128::from(unit))", ".map(|digits| i128::from(digits * unit))"),
    ("log", "src/store/files/record.rs", "let (taken, rest) = self.0.split_at_checked(len)?;", "let (taken, rest) = if len < 4096 { self.0.split_at(len) } else { self.0.split_at_checked(len)? };"),
    ("redis", "src/store/redis/answers.rs", "Some((flat.next()?, flat.next()?)),", "Some((flat.next()?, flat.next().expect(\"a pair\"))),"),
    ("channel", "src/store/redis/message.rs", 'None | Some("null") => None,', 'None | Some("null" | "\\"\\"") => None,'),
    ("json", "src/protocol/json/value.rs", "Some(b'\\\\') => at += 2,\n            Some(_) => return at + 1,", "Some(b'\\\\') => at += 1,\n            Some(_) => return at + 1,"),
]
# The bug of the log's reader is one of the snapshot's as well.
TARGETS = [bug[0] for bug in BUGS] + ["snapshot"]


def main():
    wanted = sys.argv[1:] or TARGETS
    shutil.rmtree(COPY, ignore_errors=True)
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, COPY / name)
    for target, file, before, after in BUGS:
        text = (COPY / file).read_text()
        if text.count(before) != 1:
            sys.exit(f"the bug of {target} has no place in {file}")
        (COPY / file).write_text(text.replace(before, after))
    missed = []
    environment = os.environ | {"FUZZ_TARGET_DIR": str(ROOT / "tests/fuzz/target/planted-build")}
    for target in wanted:
        run = subprocess.run(
            [COPY / "tests/fuzz/run", SECONDS, target], env=environment, capture_output=True, text=True
        )
        is_found = "panicked" in run.stdout
        print(f"{target}: {'found' if is_found else 'missed ' + run.stdout + run.stderr}", flush=True)
        if not is_found:
            missed.append(target)
    sys.exit(1 if missed else 0)


main()
