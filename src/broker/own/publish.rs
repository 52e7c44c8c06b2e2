//! `publish`, and the `subscribe` triggers that hear of it.

use crate::id::SlotId;
use crate::protocol::call::ErrorBody;
use crate::protocol::listing::inputs;

use crate::broker::own::Done;
use crate::broker::triggers::firing::Firing;

/// Every trigger of the topic is told. `id`: the socket that it came from; none for a trigger's.
pub(super) fn publish(id: Option<SlotId>, data: &str) -> Result<Done, ErrorBody> {
    let published = inputs::publish(data)?;
    let firing = Firing::of_topic(&published.topic, published.data, id);
    Ok(Done::telling(firing))
}
