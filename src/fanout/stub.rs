impl super::Fanout {
    #[allow(missing_docs)]
    pub fn is_lagging(&self) -> bool {
        false
    }
}
impl super::Reader {
    #[allow(missing_docs)]
    pub fn queue_bytes(&self) -> usize {
        0
    }
}
