//! A worker program on the Rust SDK, which does what it is told: `sdk-worker ws://HOST:PORT`
//!
//! Each line of the input is one order as JSON, each line of the output that begins with `{` one thing
//! that it saw. `../../../sdks.rs` says which.

#![allow(
    deprecated,
    reason = "deployed programs use what newer SDKs call deprecated"
)]

mod store;

use std::collections::HashMap;
use std::io::Write as _;

use iii_helpers::observability::{Logger, OtelConfig};
use iii_sdk::helpers::create_stream;
use iii_sdk::protocol::{RegisterTriggerInput, TriggerAction, TriggerRequest};
use iii_sdk::runtime::FunctionRef;
use iii_sdk::trigger::Trigger;
use iii_sdk::{Error, IIIClient, InitOptions, RegisterFunction, register_worker};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// The client, and what was registered through it under the names that the orders use.
struct Orders {
    iii: IIIClient,
    functions: HashMap<String, FunctionRef>,
    triggers: HashMap<String, Trigger>,
}

impl Orders {
    async fn carry_out(&mut self, order: &Value) -> Result<(), Error> {
        let text = |key: &str| order[key].as_str().unwrap_or_default().to_owned();
        match text("order").as_str() {
            "function" => self.register(text("id"), order),
            "unregister_function" => {
                if let Some(function) = self.functions.remove(&text("id")) {
                    function.unregister();
                }
            }
            "trigger" => {
                let config = order["config"].clone();
                let input = RegisterTriggerInput::new(text("type"), text("function_id"), config);
                let trigger = self.iii.register_trigger(input)?;
                self.triggers.insert(text("name"), trigger);
            }
            "unregister_trigger" => {
                if let Some(trigger) = self.triggers.remove(&text("name")) {
                    trigger.unregister();
                }
            }
            "store" => create_stream(&self.iii, text("stream"), store::Store::default()),
            "call" => self.call(text("function_id"), order).await,
            "tell" => {
                let mut request =
                    TriggerRequest::new(text("function_id"), order["payload"].clone());
                request.action = Some(TriggerAction::Void);
                self.iii.trigger(request).await?;
            }
            "log" => log(&text("level"), &text("message"), order["data"].clone()),
            other => return Err(Error::Handler(format!("no such order: {other}"))),
        }
        Ok(())
    }

    fn register(&mut self, id: String, order: &Value) {
        let called = id.clone();
        let answer = order["answer"].clone();
        let fails = order["fails"].as_str().map(str::to_owned);
        let handler = move |data: Value| {
            tell(json!({"called": called, "data": data}));
            let answer = match &fails {
                Some(message) => Err(Error::Handler(message.clone())),
                None => Ok(answer.clone()),
            };
            async move { answer }
        };
        let registration = RegisterFunction::new_async(handler);
        let function = self.iii.register_function(id.clone(), registration);
        self.functions.insert(id, function);
    }

    async fn call(&self, function: String, order: &Value) {
        let request = TriggerRequest::new(function, order["payload"].clone());
        let answer = match self.iii.trigger(request).await {
            Ok(result) => json!({"answered": true, "result": result}),
            Err(Error::Remote { code, message, .. }) => {
                json!({"answered": true, "error": {"code": code, "message": message}})
            }
            Err(error) => {
                json!({"answered": true, "error": {"code": "", "message": error.to_string()}})
            }
        };
        tell(answer);
    }
}

fn log(level: &str, message: &str, data: Value) {
    let logger = Logger::new();
    match level {
        "debug" => logger.debug(message, Some(data)),
        "info" => logger.info(message, Some(data)),
        "warn" => logger.warn(message, Some(data)),
        _ => logger.error(message, Some(data)),
    }
}

/// One line of the output.
fn tell(line: Value) {
    let mut output = std::io::stdout().lock();
    // Nobody reads any more: the end of the input is next.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args()
        .nth(1)
        .ok_or("usage: sdk-worker ws://HOST:PORT")?;
    let options = InitOptions {
        otel: Some(OtelConfig::default()),
        ..InitOptions::default()
    };
    let mut orders = Orders {
        iii: register_worker(&address, options),
        functions: HashMap::new(),
        triggers: HashMap::new(),
    };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        orders.carry_out(&serde_json::from_str(&line)?).await?;
    }
    orders.iii.shutdown_async().await;
    Ok(())
}
