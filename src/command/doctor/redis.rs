//! Redis: whether it is there, how far away, and whether it suits what is kept in it. Only asks.

use std::io::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use iii_stream::config::RedisStore;
use iii_stream::net::tls::why_of_io;
use iii_stream::notes::Shown;
use redis::{Cmd, Parser, Value};

use super::super::client::{Secured, Stream};
use super::finding::{Finding, State};

/// How often it is pinged.
const PINGS: usize = 20;
/// A Redis that is farther away makes each call wait.
const ROUND_TRIP_SLOW: Duration = Duration::from_millis(5);
/// The oldest that is served.
const VERSION_MIN: u32 = 5;
/// A server that is so far behind with its channel is cut off by Redis, by its own default.
const PUBSUB_BYTES: u64 = 32 << 20;
/// Times that are so far ahead of Redis's clock are not believed.
const CLOCKS_APART: Duration = Duration::from_secs(5);

/// One connection for commands.
struct Redis {
    stream: Stream,
    parser: Parser,
}

impl Redis {
    fn ask(&mut self, command: &Cmd) -> Result<Value, String> {
        self.stream
            .write_all(&command.get_packed_command())
            .and_then(|()| self.stream.flush())
            .map_err(|error| why_of_io(&error))?;
        match self.parser.parse_value(&mut self.stream) {
            Ok(Value::ServerError(error)) => Err(error.to_string()),
            Ok(value) => Ok(value),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The words of a command, as `CONFIG GET maxmemory`.
    fn say(&mut self, words: &str) -> Result<Value, String> {
        let mut command = Cmd::new();
        for word in words.split(' ') {
            command.arg(word);
        }
        self.ask(&command)
    }

    fn setting(&mut self, name: &str) -> Option<String> {
        let said = self.say(&format!("CONFIG GET {name}")).ok()?;
        redis::from_redis_value::<Vec<String>>(said).ok()?.pop()
    }
}

pub(super) fn look(store: &RedisStore) -> Vec<Finding> {
    const NAME: &str = "redis";
    let address = &store.address;
    let shown = address.shown();
    let mut redis = match connect(store) {
        Ok(redis) => redis,
        Err(why) => {
            let why = address.without_login(&why);
            let found = Finding::ok(NAME, format!("{shown}: {}", Shown(&why)));
            return vec![found.with(
                State::Bad,
                "the server does not start",
                "start Redis, or mend redis_url: its host, port and login",
            )];
        }
    };
    let info = redis.say("INFO").ok();
    let info = info.and_then(|value| redis::from_redis_value::<String>(value).ok());
    let info = Info(info.unwrap_or_default());
    let mut findings = vec![
        version(&shown, &info),
        round_trip(&mut redis),
        full(&mut redis, &info),
        output_buffer(&mut redis),
    ];
    findings.extend(role(&info));
    findings.extend(clocks(&mut redis));
    findings
}

fn connect(store: &RedisStore) -> Result<Redis, String> {
    let address = &store.address;
    let until = Instant::now() + store.connect_timeout;
    let to = (&*address.host, address.port);
    let tls = address.server_name.as_ref().map(|name| Secured {
        name,
        certificate: None,
        own: None,
    });
    let stream = Stream::connect(to, tls, until);
    let stream = stream.map_err(|error| error.to_string())?;
    let mut redis = Redis {
        stream,
        parser: Parser::new(),
    };
    if let Some(password) = &address.password {
        let mut login = redis::cmd("AUTH");
        login.arg(&address.user).arg(password);
        redis.ask(&login)?;
    }
    redis.say("PING")?;
    if address.database != 0 {
        redis.say(&format!("SELECT {}", address.database))?;
    }
    Ok(redis)
}

/// The answer to `INFO`.
struct Info(String);

impl Info {
    fn of(&self, key: &str) -> Option<&str> {
        let mut lines = self.0.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
    }
}

fn version(shown: &str, info: &Info) -> Finding {
    const NAME: &str = "redis";
    let Some(version) = info.of("redis_version") else {
        return Finding::unknown(NAME, format!("{shown}: its user may not ask for INFO"));
    };
    let found = format!("{shown}: version {}", Shown(version));
    let first = version
        .split('.')
        .next()
        .and_then(|part| part.parse::<u32>().ok());
    let is_old = first.is_some_and(|first| first < VERSION_MIN);
    let is_cluster = info.of("cluster_enabled") == Some("1");
    let found = match is_cluster {
        true => format!("{found}, a cluster"),
        false => found,
    };
    let state = match is_old || is_cluster {
        true => State::Bad,
        false => State::Ok,
    };
    Finding::ok(NAME, found).with(
        state,
        "the server does not start on it",
        format!("Redis {VERSION_MIN} or newer, and no cluster"),
    )
}

fn round_trip(redis: &mut Redis) -> Finding {
    const NAME: &str = "redis round trip";
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let began = Instant::now();
        if let Err(why) = redis.say("PING") {
            return Finding::ok(NAME, Shown(&why).to_string()).with(
                State::Bad,
                "it does not answer in time",
                "see what it does (redis-cli --latency, SLOWLOG)",
            );
        }
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let (median, most) = (times[PINGS / 2], times[PINGS - 1]);
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let found = format!(
        "{:.2} ms in the middle, {:.2} ms at most",
        ms(median),
        ms(most)
    );
    let state = match median >= ROUND_TRIP_SLOW {
        true => State::Warning,
        false => State::Ok,
    };
    Finding::ok(NAME, found).with(
        state,
        "each call of a stream function waits for at least one round trip",
        "a Redis in the same place as the server",
    )
}

fn full(redis: &mut Redis, info: &Info) -> Finding {
    const NAME: &str = "redis memory";
    let policy = redis.setting("maxmemory-policy");
    let policy = policy.or_else(|| info.of("maxmemory_policy").map(str::to_owned));
    let (Some(policy), Some(most)) = (policy, info.of("maxmemory")) else {
        return Finding::unknown(NAME, "its user may ask for neither INFO nor CONFIG GET");
    };
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or(0);
    let most = number(most);
    let used = info.of("used_memory").map_or(0, number);
    let mib = |bytes: u64| bytes >> 20;
    let room = match most {
        0 => format!("{} MiB used, no maxmemory", mib(used)),
        most => format!("{} of {} MiB used", mib(used), mib(most)),
    };
    let found = Finding::ok(NAME, format!("{room}; {}", Shown(&policy)));
    if policy.starts_with("allkeys") {
        let state = match most {
            0 => State::Warning,
            _ => State::Bad,
        };
        return found.with(
            state,
            "when it is full it throws values away, and nobody is told",
            "CONFIG SET maxmemory-policy noeviction, and the same in its file",
        );
    }
    let state = match most > 0 && used > most / 10 * 9 {
        true => State::Warning,
        false => State::Ok,
    };
    found.with(
        state,
        "when it is full, sets and updates are refused",
        "raise maxmemory, or remove what nobody needs",
    )
}

/// `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`.
fn output_buffer(redis: &mut Redis) -> Finding {
    const NAME: &str = "redis channel";
    let Some(limits) = redis.setting("client-output-buffer-limit") else {
        return Finding::unknown(
            NAME,
            "its user may not ask for CONFIG GET client-output-buffer-limit",
        );
    };
    of_output_buffer(NAME, &limits)
}

fn of_output_buffer(name: &'static str, limits: &str) -> Finding {
    let mut words = limits
        .split_whitespace()
        .skip_while(|word| *word != "pubsub");
    let limits: Vec<u64> = words
        .by_ref()
        .skip(1)
        .map_while(|word| word.parse().ok())
        .collect();
    let [hard, soft, seconds] = limits[..] else {
        return Finding::unknown(name, "its limit of what waits for a subscriber is not told");
    };
    let mib = |bytes: u64| bytes >> 20;
    let found = format!(
        "a subscriber may be {} MiB behind, or {} MiB for {seconds} s",
        mib(hard),
        mib(soft)
    );
    let found = match hard {
        0 => "a subscriber may be behind without limit".to_owned(),
        _ => found,
    };
    let state = match hard != 0 && hard < PUBSUB_BYTES {
        true => State::Warning,
        false => State::Ok,
    };
    Finding::ok(name, found).with(
        state,
        "a server that is a moment behind is cut off; each of its followed groups is then read anew",
        "CONFIG SET client-output-buffer-limit \"pubsub 256mb 64mb 60\", and the same in its file",
    )
}

fn role(info: &Info) -> Option<Finding> {
    let is_replica = info.of("role") == Some("slave");
    is_replica.then(|| {
        Finding::ok("redis role", "a replica").with(
            State::Bad,
            "it takes no writes: sets, updates and deletes are refused",
            "name the master in redis_url",
        )
    })
}

fn clocks(redis: &mut Redis) -> Option<Finding> {
    const NAME: &str = "redis clock";
    let began = SystemTime::now();
    let said = redis.say("TIME").ok()?;
    let said = redis::from_redis_value::<Vec<String>>(said).ok()?;
    let mut numbers = said.iter().filter_map(|text| text.parse::<u64>().ok());
    let theirs = Duration::from_secs(numbers.next()?) + Duration::from_micros(numbers.next()?);
    let ours = began.duration_since(UNIX_EPOCH).ok()?;
    let apart = ours.abs_diff(theirs);
    let state = match apart >= CLOCKS_APART {
        true => State::Warning,
        false => State::Ok,
    };
    let found = Finding::ok(NAME, format!("{} ms from ours", apart.as_millis()));
    Some(found.with(
        state,
        "timestamps come from Redis's clock there and from ours elsewhere",
        "a time service on both machines",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_the_channel_below_the_default_is_told() {
        let of = |limits: &str| of_output_buffer("redis channel", limits);
        let default = of("normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60");
        assert_eq!(default.state, State::Ok);
        assert_eq!(
            default.found,
            "a subscriber may be 32 MiB behind, or 8 MiB for 60 s"
        );
        assert_eq!(of("pubsub 1048576 0 0").state, State::Warning);
        assert_eq!(of("pubsub 0 0 0").state, State::Ok);
        assert_eq!(of("normal 0 0 0").state, State::Unknown);
    }

    #[test]
    fn what_redis_says_of_itself_is_judged() {
        let info = |text: &str| Info(text.to_owned());
        let new = info("# Server\r\nredis_version:7.0.15\r\ncluster_enabled:0\r\nrole:master\r\n");
        assert_eq!(version("x", &new).state, State::Ok);
        assert!(role(&new).is_none());
        assert_eq!(version("x", &info("redis_version:4.0.1")).state, State::Bad);
        assert_eq!(
            version("x", &info("redis_version:7.2\ncluster_enabled:1")).state,
            State::Bad
        );
        assert_eq!(version("x", &info("")).state, State::Unknown);
        assert!(role(&info("role:slave")).is_some());
    }
}
