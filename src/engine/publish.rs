//! `publish`, and the `subscribe` triggers that hear of it.

use crate::id::{SlotId, Text};
use crate::protocol::call::ErrorBody;
use crate::protocol::listing::inputs;

use super::Engine;
use super::own::Done;

impl Engine {
    /// Every trigger of the topic is told. One that is told by another trigger's `publish` publishes
    /// no further: else each level of a nested value would be told to all of them, and the levels
    /// multiply.
    pub(super) fn publish(&self, id: Option<SlotId>, data: &str) -> Result<Done, ErrorBody> {
        let published = inputs::publish(data)?;
        let mut functions = self.triggers.of_topic(&published.topic);
        if id.is_none() {
            functions.retain(|called| {
                let function = called.target.function();
                function.id != inputs::PUBLISH || self.functions.find(function).is_some()
            });
        }
        let payload = Text::from(published.data);
        Ok(Done::telling(functions, payload))
    }
}
