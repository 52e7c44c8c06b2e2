//! Every input that fuzzing keeps, through the function that it is for: so what was found once stays mended,
//! with the compiler of everybody and in seconds. The functions stand in `tests/fuzz`, which runs them on
//! inputs of its own.

use std::fs;
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "there it is a library")]
mod fuzz;

#[test]
fn the_kept_inputs_of_every_target_break_no_promise() {
    type Run = fn(&[u8]);
    let targets: [(&str, Run); 11] = [
        ("call", fuzz::call::run),
        ("channel", fuzz::channel::run),
        ("config", fuzz::config::run),
        ("frames", fuzz::frames::run),
        ("head", fuzz::head::run),
        ("join", fuzz::join::run),
        ("json", fuzz::json::run),
        ("log", fuzz::log::run),
        ("redis", fuzz::redis::run),
        ("snapshot", fuzz::snapshot::run),
        ("update", fuzz::update::run),
    ];
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let kept = fs::read_dir(&corpus).unwrap().count();
    assert_eq!(kept, targets.len(), "a folder for each");
    for (name, run) in targets {
        let inputs: Vec<_> = fs::read_dir(corpus.join(name)).unwrap().collect();
        assert!(inputs.len() >= 3, "{name}");
        for input in inputs {
            let path = input.unwrap().path();
            eprintln!("{}", path.display());
            run(&fs::read(path).unwrap());
        }
    }
}
