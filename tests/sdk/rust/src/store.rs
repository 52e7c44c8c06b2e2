//! Values of one stream, kept by this program in the order in which they came.

use std::sync::Mutex;

use async_trait::async_trait;
use iii_helpers::stream::{
    StreamDeleteInput, StreamDeleteResult, StreamGetInput, StreamListGroupsInput, StreamListInput,
    StreamSetInput, StreamSetResult, StreamUpdateInput, StreamUpdateResult,
};
use iii_sdk::{Error, IStream};
use serde_json::{Value, json};

use crate::tell;

struct Item {
    group: String,
    id: String,
    data: Value,
}

#[derive(Default)]
pub struct Store(Mutex<Vec<Item>>);

impl Store {
    /// Changes the items in one step.
    fn with<T>(&self, change: impl FnOnce(&mut Vec<Item>) -> T) -> Result<T, Error> {
        match self.0.lock() {
            Ok(mut items) => Ok(change(&mut items)),
            Err(_) => Err(Error::Handler("the store is broken".to_owned())),
        }
    }
}

fn place(items: &[Item], group: &str, id: &str) -> Option<usize> {
    items
        .iter()
        .position(|item| item.group == group && item.id == id)
}

#[async_trait]
impl IStream for Store {
    async fn get(&self, input: StreamGetInput) -> Result<Option<Value>, Error> {
        self.with(|items| {
            let place = place(items, &input.group_id, &input.item_id)?;
            Some(items[place].data.clone())
        })
    }

    async fn set(&self, input: StreamSetInput) -> Result<Option<StreamSetResult>, Error> {
        tell(json!({"called": format!("stream::set({})", input.stream_name), "data": input}));
        self.with(|items| {
            let item = Item {
                group: input.group_id,
                id: input.item_id,
                data: input.data.clone(),
            };
            let old_value = match place(items, &item.group, &item.id) {
                Some(place) => Some(std::mem::replace(&mut items[place], item).data),
                None => {
                    items.push(item);
                    None
                }
            };
            Some(StreamSetResult {
                old_value,
                new_value: input.data,
            })
        })
    }

    async fn delete(&self, input: StreamDeleteInput) -> Result<StreamDeleteResult, Error> {
        self.with(|items| {
            let place = place(items, &input.group_id, &input.item_id);
            let old_value = place.map(|place| items.remove(place).data);
            StreamDeleteResult { old_value }
        })
    }

    async fn list(&self, input: StreamListInput) -> Result<Vec<Value>, Error> {
        self.with(|items| {
            let of_group = items.iter().filter(|item| item.group == input.group_id);
            of_group.map(|item| item.data.clone()).collect()
        })
    }

    async fn list_groups(&self, _: StreamListGroupsInput) -> Result<Vec<String>, Error> {
        self.with(|items| {
            let mut groups: Vec<String> = items.iter().map(|item| item.group.clone()).collect();
            groups.dedup();
            groups
        })
    }

    async fn update(&self, _: StreamUpdateInput) -> Result<Option<StreamUpdateResult>, Error> {
        Err(Error::Handler("is never registered".to_owned()))
    }
}
