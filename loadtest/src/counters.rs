//! What the server counts of itself, by its admin port: how much of a load has crossed its threads.
//!
//! Read outside of the window, so that it disturbs nothing that is measured.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::report::{Better, Figure};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Sums over all workers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    joins: u64,
    joins_home: u64,
    handed_over: u64,
    events: u64,
    events_sent: u64,
}

impl Counters {
    /// None: the port is not there, or is no admin port of this server.
    pub(crate) fn read(admin: SocketAddr) -> Option<Counters> {
        let mut stream = TcpStream::connect_timeout(&admin, TIMEOUT).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).ok()?;
        let request =
            format!("GET /metrics HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer
            .contains("iii_stream_events_total")
            .then(|| Counters::of(&answer))
    }

    fn of(text: &str) -> Counters {
        let sum = |name: &str| -> u64 {
            let of_it = |line: &str| {
                let rest = line.strip_prefix(name)?.strip_prefix('{')?;
                rest.rsplit_once(' ')?.1.parse::<u64>().ok()
            };
            text.lines().filter_map(of_it).sum()
        };
        Counters {
            joins: sum("iii_stream_joins_total"),
            joins_home: sum("iii_stream_joins_home_total"),
            handed_over: sum("iii_stream_sockets_handed_over_total"),
            events: sum("iii_stream_events_total"),
            events_sent: sum("iii_stream_events_sent_total"),
        }
    }
}

/// Before anybody came, when all had joined, and at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    pub(crate) before: Option<Counters>,
    pub(crate) joined: Option<Counters>,
    pub(crate) after: Option<Counters>,
}

impl Counted {
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let (Some(before), Some(joined), Some(after)) = (self.before, self.joined, self.after)
        else {
            return Vec::new();
        };
        let ratio = |of: fn(&Counters) -> u64,
                     to: fn(&Counters) -> u64,
                     from: &Counters,
                     until: &Counters| {
            let whole = to(until).saturating_sub(to(from));
            (whole > 0).then(|| of(until).saturating_sub(of(from)) as f64 / whole as f64)
        };
        vec![
            Figure::new(
                "messages_between_workers_per_event",
                "messages between workers an event",
                "",
                ratio(|c| c.events_sent, |c| c.events, &joined, &after),
                Better::Neither,
            ),
            Figure::new(
                "hand_overs_per_join",
                "hand-overs a join",
                "",
                ratio(|c| c.handed_over, |c| c.joins, &before, &joined),
                Better::Neither,
            ),
            Figure::new(
                "members_at_home",
                "members with their group's owner",
                "",
                ratio(|c| c.joins_home, |c| c.joins, &before, &joined),
                Better::Neither,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_workers_and_told_as_ratios() {
        let text = |home: u64, sent: u64| {
            format!(
                "# TYPE iii_stream_joins counter\niii_stream_joins_total{{worker=\"0\"}} 4\n\
                 iii_stream_joins_total{{worker=\"1\"}} 6\niii_stream_joins_home_total{{worker=\"1\"}} {home}\n\
                 iii_stream_events_total{{worker=\"0\"}} 100\niii_stream_events_sent_total{{worker=\"0\"}} {sent}\n\
                 iii_stream_sockets_handed_over_total{{worker=\"0\"}} 8\n"
            )
        };
        let joined = Counters::of(&text(9, 0));
        let after = Counters {
            events: 300,
            ..Counters::of(&text(9, 50))
        };
        let counted = Counted {
            before: Some(Counters::default()),
            joined: Some(joined),
            after: Some(after),
        };
        let values: Vec<_> = counted
            .figures()
            .iter()
            .map(|figure| figure.value)
            .collect();
        assert_eq!(values, [Some(0.25), Some(0.8), Some(0.9)]);
        assert!(Counted::default().figures().is_empty());
    }
}
