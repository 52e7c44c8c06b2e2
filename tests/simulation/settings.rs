//! What a run is set to: the limits, what may wait, and who is asked about subscribers.

use iii_stream::config::Limits;
use iii_stream::mesh::AuthFunction;
use iii_stream::shard::UNITS_A_TURN;
use iii_stream::subscribers::Bounds;

use crate::pace::Pace;

#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) bounds: Bounds,
    pub(crate) auth: Option<AuthFunction>,
    /// Followers of a group that live with its owner.
    pub(crate) place_below: usize,
}

impl Settings {
    /// Most limits are far away in most runs, and near in some.
    pub(crate) fn of_seed(pace: &mut Pace, workers: usize) -> Settings {
        let mut settings = Settings::default();
        let Settings {
            limits,
            bounds,
            auth,
            place_below,
        } = &mut settings;
        limits.behind_bytes = *pace.pick(&[0, 0, 300, 3_000, 1 << 20]);
        limits.custom_events_behind = *pace.pick(&[1_000, 2]);
        limits.behind_bytes_worker = usize::MAX;
        limits.name_bytes = 40;
        limits.handshake_ms = *pace.pick(&[5_000, 1_000]);
        limits.ping_interval_ms = *pace.pick(&[25_000, 2_000, 1_000, 0]);
        limits.pong_timeout_ms = *pace.pick(&[20_000, 1_500, 500]);
        limits.stall_timeout_ms = *pace.pick(&[60_000, 3_000, 1_000]);
        limits.message_bytes = 2_000;
        limits.subscriptions = *pace.pick(&[1_000, 1_000, 3]);
        limits.equal_subscriptions = *pace.pick(&[1_000, 1_000, 2]);
        limits.joins_per_s = *pace.pick(&[1_000, 1_000, 20, 3]);
        limits.read_bytes_per_s = *pace.pick(&[1 << 22, 1 << 22, 5_000]);
        limits.connections = *pace.pick(&[1_000, 1_000, 4]);
        limits.handshakes = *pace.pick(&[1_000, 1_000, 2 * workers]);
        limits.handshakes_bytes = *pace.pick(&[1 << 20, 1 << 20, 400 * workers]);
        bounds.messages = *pace.pick(&[64, 64, 3]);
        bounds.queue_bytes = *pace.pick(&[1 << 18, 1 << 18, 700, 100]);
        bounds.owed_bytes = *pace.pick(&[1 << 23, 1 << 23, 500, 100]);
        bounds.commands = *pace.pick(&[1 << 16, 1 << 16, 3]);
        *place_below = *pace.pick(&[0, 1, 2, 256]);
        bounds.shard_units = *pace.pick(&[UNITS_A_TURN, UNITS_A_TURN, 1, 9]);
        *auth = (pace.below(3) == 0).then(|| AuthFunction {
            id: "auth".into(),
            admits_failures: pace.below(3) == 0,
        });
        settings
    }
}
