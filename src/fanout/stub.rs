impl super::Reader {
    #[allow(missing_docs)]
    pub fn queue_bytes(&self) -> usize {
        0
    }
}
