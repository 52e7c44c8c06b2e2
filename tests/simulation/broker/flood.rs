//! Events that come faster than their triggers can be told.

use std::sync::Arc;

use iii_stream::id::{GroupKey, WorkerId};
use iii_stream::shard::hooks::Hooks;
use iii_stream::shard::{Ask, Command, Decides, Effects, Fired, Shard, Store, ValueLimits};
use iii_stream::store::Memory;
use serde_json::json;

use super::World;

/// What triggers hear of a change of `s`.
fn fired() -> Fired {
    let limits = ValueLimits {
        json_depth: 10,
        value_bytes: 1000,
    };
    let mut shard = Shard::new(WorkerId(0), Decides::Owner, limits);
    let mut hooks = Hooks {
        version: 1_000_000,
        ..Hooks::default()
    };
    hooks.events.add("s", None, None);
    shard.set_hooks(hooks.into());
    let mut out = Effects::default();
    let ask = Ask::Set {
        item: "i".into(),
        data: "1".into(),
        ttl: None,
        call: None,
    };
    let key = GroupKey::new("s", "a@0");
    shard.apply(Command::Group { key, ask }, 1, &mut out);
    let mut learned = Vec::new();
    Memory.serve(std::mem::take(&mut out.requests), &mut learned);
    for learned in learned {
        shard.learn(learned, 1, &mut out);
    }
    out.fired.pop().expect("it is followed")
}

/// Thousands of triggers hear of each event, and events come faster than they can be told.
#[test]
fn an_answer_and_a_join_pass_a_flood_of_events() {
    let mut world = World::of_seed(1);
    world.pace.is_full = true;
    for n in 0..5_000 {
        world.say(
            0,
            &json!({"type": "registertrigger", "id": format!("t{n}"), "trigger_type": "stream",
                "function_id": "f0", "config": {"stream_name": "s"}}),
        );
    }
    let event = fired();
    let flood = |world: &mut World| {
        let owner = &mut world.owners[0];
        while !owner.ports.to_fired.has_backlog() {
            owner.ports.to_fired.send(Fired {
                version: event.version,
                key: event.key.clone(),
                frame: Arc::clone(&event.frame),
            });
        }
        owner.ports.to_fired.flush();
        world.turn_of_engine();
        world.programs[0].asked.clear();
    };
    for _ in 0..100 {
        flood(&mut world);
    }
    world.turn_of_owner(0);
    let id = "00000000-0000-0000-0000-000000000001";
    world.programs[1].calls.insert(id.to_owned(), 1);
    world.say(
        1,
        &json!({"type": "invokefunction", "invocation_id": id, "function_id": "stream::set",
            "data": {"stream_name": "s", "group_id": "a@0", "item_id": "i", "data": {"by": 1, "n": 1}}}),
    );
    world.turn_of_owner(0);
    flood(&mut world);
    assert!(world.programs[1].calls.is_empty(), "the answer waits");

    let id = "00000000-0000-0000-0000-000000000002";
    world.programs[1].calls.insert(id.to_owned(), 1);
    world.say(
        1,
        &json!({"type": "invokefunction", "invocation_id": id,
            "function_id": "engine::functions::list", "data": {}}),
    );
    flood(&mut world);
    flood(&mut world);
    assert!(world.programs[1].calls.is_empty(), "the listing waits");

    world.join(0);
    world.turn_of_engine();
    world.turn_of_engine();
    let mut asked = world.programs[0].asked.iter();
    assert!(
        asked.any(|asked| asked["function_id"] == "j"),
        "the join waits"
    );
}
