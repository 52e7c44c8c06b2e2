//! Cases that a seed may miss, written by hand.

use iii_stream::id::{GroupKey, SlotId, WorkerId};
use iii_stream::protocol::answer::Outcome;
use iii_stream::shard::{
    Ask, Command, Decides, Delivered, Effects, Join, Learned, Shard, Store, ValueLimits,
};

use crate::hosts::settle;
use crate::steps::updates;
use crate::wire::Message;
use crate::{Kind, OneDouble, Simulation};

/// A set, an update, a get, a list, a delete and a join of one item wait for the store when it
/// refuses the second; one batch later it works again.
#[test]
fn a_refusal_in_the_middle_of_a_pipeline_takes_nothing_back_and_leaves_nothing_half_done() {
    let limits = ValueLimits {
        json_depth: 10,
        value_bytes: 1000,
    };
    let mut shard = Shard::new(WorkerId(0), Decides::Owner, limits);
    let store = OneDouble::new(Kind::Log);
    let key = GroupKey::new("s", "g");
    let mut turn = |asks: Vec<Ask>| {
        let mut out = Effects::default();
        for ask in asks {
            let key = key.clone();
            shard.apply(Command::Group { key, ask }, 1, &mut out);
        }
        assert!(
            out.replies.is_empty() && out.deliveries.is_empty(),
            "nobody has accepted it"
        );
        let mut learned: Vec<Learned> = Vec::new();
        let mut double = store.double.borrow_mut();
        double.serve(std::mem::take(&mut out.requests), &mut learned);
        for learned in learned {
            shard.learn(learned, 1, &mut out);
        }
        // The first batch works, the next is refused from its second write on.
        store.cues.lock().unwrap().refuse_after = (out.replies.len() == 1).then_some(1);
        let items = double
            .items(&key)
            .iter()
            .map(|(_, value)| value.to_string());
        (out, items.collect::<Vec<String>>())
    };
    let name = |n: u32| SlotId {
        slot: n,
        generation: 0,
    };
    let set = |value: &str, n: u32| Ask::Set {
        item: "u1".into(),
        data: value.into(),
        ttl: None,
        call: Some(name(n)),
    };
    let get = |n: u32| Ask::Get {
        item: "u1".into(),
        call: name(n),
    };
    let value = |n: u32| format!(r#"{{"id":"u1","n":{n}}}"#);

    let (_, durable) = turn(vec![set(&value(1), 0)]);
    assert_eq!(durable, [value(1)]);
    let update = Ask::Update {
        item: "u1".into(),
        ops: updates("u1", 1),
        ttl: None,
        call: Some(name(2)),
    };
    let delete = Ask::Delete {
        item: "u1".into(),
        call: Some(name(5)),
    };
    let join = Ask::Join(Join {
        worker: WorkerId(0),
        local: name(0),
        connection: name(0),
        token: 0,
        item: None,
    });
    let list = Ask::List { call: name(4) };
    let pipeline = vec![
        set(&value(7), 1),
        update,
        get(3),
        list,
        delete,
        join,
        set("0", 6),
        get(7),
    ];
    let (out, durable) = turn(pipeline);
    assert_eq!(durable, [value(7)]);
    let told: Vec<(u32, Option<String>)> = out
        .replies
        .iter()
        .map(|reply| {
            let told = match &reply.outcome {
                Outcome::Set { new, .. } => Some(new.to_string()),
                Outcome::Got(value) => value.as_ref().map(|value| value.to_string()),
                Outcome::List(chunks) => Some(chunks.concat()),
                Outcome::Failed(_) => None,
                other => panic!("{other:?}"),
            };
            (reply.call.slot, told)
        })
        .collect();
    let accepted = Some(value(7));
    let listed = Some(format!(",{}", value(7)));
    let expected = [
        (1, accepted.clone()),
        (2, None),
        (3, accepted.clone()),
        (4, listed),
        (5, None),
        (6, None),
        (7, accepted),
    ];
    assert_eq!(told, expected);
    let [delivery] = &out.deliveries[..] else {
        panic!("the join and nothing else");
    };
    let Delivered::Entered { sync, .. } = &delivery.what else {
        panic!("it is a join");
    };
    let sync = sync.as_ref().unwrap().pieces_from(0).collect::<Vec<_>>();
    let sync = Message::whole(&sync.concat());
    assert_eq!(sync.event["data"].to_string(), format!("[{}]", value(7)));

    let (out, durable) = turn(vec![set(&value(8), 8)]);
    assert_eq!(durable, [value(8)]);
    let [reply] = &out.replies[..] else {
        panic!("one reply");
    };
    let (old, new) = (Some(value(7).into()), value(8).into());
    assert_eq!(reply.outcome, Outcome::Set { new, old });
    assert_eq!(out.deliveries.len(), 1, "the subscriber hears of it");
}

/// Each worker's sockets join and leave the groups of the other, far more than mailboxes hold.
#[test]
fn workers_that_flood_each_other_with_joins_never_stand_still() {
    for kind in [Kind::Memory, Kind::Log, Kind::Shared] {
        let mut simulation = Simulation::of_kind(kind, 2, 7);
        for worker in 0..2 {
            for _ in 0..4 {
                simulation.accept(worker);
            }
            let other = simulation.keys[1 - worker].clone();
            for peer in simulation.workers[worker].peers.values_mut() {
                peer.upgrades(None, usize::MAX);
                for n in 0..100 {
                    let id = format!("s{}", n % 7);
                    peer.joins(&id, &other, None);
                    if n % 3 == 0 {
                        peer.leaves(&id, &other, None);
                    }
                }
            }
        }
        for round in 0..200 {
            simulation.turn_of_worker(round % 2);
            simulation.call();
            simulation.turn_of_engine();
        }
        settle(std::slice::from_mut(&mut simulation));
    }
}
