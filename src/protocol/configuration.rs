//! What a newer engine says of a worker's configuration, which it keeps and changes while that runs.
//!
//! May not know what becomes of a change.

use serde_json::value::RawValue;

use super::json::{phrase, raw};

/// Our function that the engine calls when our configuration has changed.
pub const ON_CONFIG_CHANGE: &str = "iii-stream::on-config-change";
/// The engine's function that tells a worker's configuration.
pub const GET: &str = "configuration::get";
/// What that is asked for ours.
pub const GET_INPUT: &str = r#"{"id":"iii-stream"}"#;

/// Where the configuration may stand in what is said.
const HOLDERS: [&str; 5] = [
    "value",
    "config",
    "new_value",
    "new_config",
    "configuration",
];
/// What is read at the start only.
const AT_START: [&str; 3] = ["port", "host", "adapter"];

/// A configuration, as far as it is of use while the server runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Who is asked about subscribers' sockets; `Some(None)`: nobody. None: it is not named.
    pub auth_function: Option<Option<String>>,
    /// Keys that are named and count at the start only.
    pub at_start: Vec<&'static str>,
}

/// Reads what was said. `Ok(None)`: it tells of no configuration, which has to be asked for.
///
/// Err: it is none of ours, and why.
pub fn read(said: &str) -> Result<Option<Configuration>, String> {
    let holders = phrase::members(said, "ConfigurationChange", HOLDERS)?;
    let is_object = |json: &&RawValue| json.get().starts_with('{');
    let held = holders.into_iter().flatten().find(is_object);
    let read = read_keys(held.map_or(said, RawValue::get))?;
    Ok((held.is_some() || read != Configuration::default()).then_some(read))
}

fn read_keys(config: &str) -> Result<Configuration, String> {
    let [auth_function] = phrase::members(config, "StreamConfig", ["auth_function"])?;
    let auth_function = auth_function
        .map(|named| phrase::optional_string(Some(named)))
        .transpose()
        .map_err(|phrase| format!("auth_function: {phrase}"))?;
    if matches!(&auth_function, Some(Some(id)) if id.is_empty()) {
        return Err("auth_function: an empty name".to_owned());
    }
    let given = raw::pick(config, AT_START).map_err(|error| error.to_string())?;
    let at_start = AT_START.into_iter().zip(given);
    Ok(Configuration {
        auth_function: auth_function.map(|id| id.map(|id| id.into_owned())),
        at_start: at_start
            .filter_map(|(key, value)| value.map(|_| key))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(said: &str) -> Option<Option<String>> {
        read(said).unwrap().unwrap().auth_function
    }

    #[test]
    fn the_function_is_found_wherever_the_configuration_stands() {
        let named = Some(Some("onAuth".to_owned()));
        for said in [
            r#"{"auth_function":"onAuth"}"#,
            r#"{"id":"iii-stream","value":{"auth_function":"onAuth"}}"#,
            r#"{"config":{"auth_function":"onAuth"},"old_value":{"auth_function":"x"}}"#,
            r#"{"new_value":{"auth_function":"onAuth"}}"#,
        ] {
            assert_eq!(auth(said), named, "{said}");
        }
        assert_eq!(auth(r#"{"auth_function":null}"#), Some(None));
        assert_eq!(auth(r#"{"value":{"port":3112}}"#), None, "it stays");
    }

    #[test]
    fn what_tells_nothing_is_to_be_asked_for_and_what_is_wrong_is_told() {
        for said in ["{}", r#"{"id":"iii-stream"}"#, r#"{"value":null}"#] {
            assert_eq!(read(said), Ok(None), "{said}");
        }
        for (said, why) in [
            (
                "5",
                "invalid type: integer `5`, expected struct ConfigurationChange",
            ),
            (
                r#"{"auth_function":5}"#,
                "auth_function: invalid type: integer `5`, expected a string",
            ),
            (
                r#"{"value":{"auth_function":""}}"#,
                "auth_function: an empty name",
            ),
        ] {
            assert_eq!(read(said), Err(why.to_owned()), "{said}");
        }
    }

    #[test]
    fn keys_that_count_at_the_start_are_named() {
        let read = read(r#"{"value":{"adapter":{},"port":1,"other":2}}"#);
        assert_eq!(read.unwrap().unwrap().at_start, ["port", "adapter"]);
    }
}
