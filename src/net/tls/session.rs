//! Our end of a TLS session as its server: what came in is opened, what goes out is sealed.
//!
//! The only file that knows how rustls wants it. It keeps no buffer while the peer is idle: what is
//! kept is a record that is not whole, or part of a handshake message. Has no socket.

use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{Error, ServerConfig};

/// So much plain text goes into one record.
pub(super) const RECORD_BYTES: usize = 16 * 1024;
/// Room for one such record with all that it is wrapped in, and for a change of keys before it.
pub(super) const SEALED_BYTES: usize = RECORD_BYTES + 1024;

/// What a record begins with: its type, two bytes of version, its length.
const HEADER_BYTES: usize = 5;
/// No record is longer than that (RFC 5246 §6.2.3); one that says so is rustls's to refuse.
const RECORD_BYTES_MAX: usize = RECORD_BYTES + 2048;

/// One session.
pub(super) struct Session {
    connection: UnbufferedServerConnection,
    /// What has come and could not be used up. It stands before what comes next.
    kept: Vec<u8>,
    /// Where in that the first record begins that is not whole.
    whole: usize,
    /// The peer has said that it sends nothing more.
    is_ended: bool,
}

impl Session {
    /// The peer speaks first.
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Session, Error> {
        Ok(Session {
            connection: UnbufferedServerConnection::new(config)?,
            kept: Vec::new(),
            whole: 0,
            is_ended: false,
        })
    }

    /// Whether no bytes of the application may go yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// Whether the peer has said that it sends nothing more.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// So many bytes at the front of the input are those kept: what is read comes behind.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept.len()
    }

    /// Opens what came: `len` new bytes stand in `input` behind room for those kept. Gives how many
    /// plain bytes that made, in `plain`, which is as long as `input`. What the session itself has to
    /// say is appended to `out`, in the case of an error too.
    pub(super) fn feed(
        &mut self,
        input: &mut [u8],
        len: usize,
        plain: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, Error> {
        let kept = self.kept.len();
        input[..kept].copy_from_slice(&self.kept);
        let input = &mut input[..kept + len];
        let whole = self.whole + whole_bytes(&input[self.whole..]);
        if whole == self.whole {
            self.kept.extend_from_slice(&input[kept..]);
            return Ok(0);
        }
        let opened = self.open(input, plain, out);
        let (used, written) = opened?;
        match self.is_ended {
            true => self.kept = Vec::new(), // what stands behind the end counts for nothing
            false => self.keep(&input[used..]),
        }
        self.whole = whole.saturating_sub(used).min(self.kept.len());
        Ok(written)
    }

    /// Gives how much of the input is used up, and how many plain bytes that made.
    fn open(
        &mut self,
        input: &mut [u8],
        plain: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, usize), Error> {
        let (mut used, mut written) = (0, 0);
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.connection.process_tls_records(&mut input[used..]);
            let mut is_done = false;
            let mut fault = None;
            match state {
                Ok(ConnectionState::ReadTraffic(mut records)) => {
                    while let Some(record) = records.next_record() {
                        let record = record?;
                        let to = written + record.payload.len();
                        plain[written..to].copy_from_slice(record.payload);
                        written = to;
                        discard += record.discard;
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => append(&mut data, out),
                // It is in `out`, and goes from there.
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => self.is_ended = true,
                Ok(_) => is_done = true,
                Err(error) => fault = Some(error),
            }
            used += discard;
            if let Some(error) = fault {
                self.take_alert(&mut input[used..], out);
                return Err(error);
            }
            if is_done {
                return Ok((used, written));
            }
        }
    }

    /// After an error: the alert that says why.
    fn take_alert(&mut self, input: &mut [u8], out: &mut Vec<u8>) {
        if let Ok(ConnectionState::EncodeTlsData(mut data)) =
            self.connection.process_tls_records(input).state
        {
            append(&mut data, out);
        }
    }

    fn keep(&mut self, rest: &[u8]) {
        match rest.is_empty() {
            true => self.kept = Vec::new(),
            false => {
                self.kept.clear();
                self.kept.extend_from_slice(rest);
            }
        }
    }

    /// Makes one record of at most [`RECORD_BYTES`]; `out` has [`SEALED_BYTES`]. Gives its length.
    /// None: nothing may be sent any more, or not yet.
    pub(super) fn seal(&mut self, plain: &[u8], out: &mut [u8]) -> Option<usize> {
        self.say(Say::Bytes(plain), out)
    }

    /// Says that nothing more will be sent. Gives the length of that; None: as for [`Session::seal`].
    pub(super) fn end(&mut self, out: &mut [u8]) -> Option<usize> {
        self.say(Say::End, out)
    }

    fn say(&mut self, what: Say<'_>, out: &mut [u8]) -> Option<usize> {
        let mut len = 0;
        loop {
            // What is kept goes along: rustls may have marked parts of a message in it.
            let UnbufferedStatus { discard, state } =
                self.connection.process_tls_records(&mut self.kept);
            let last = match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => Some(match what {
                    Say::Bytes(plain) => traffic.encrypt(plain, &mut out[len..]).ok()?,
                    Say::End => traffic.queue_close_notify(&mut out[len..]).ok()?,
                }),
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    len += data.encode(&mut out[len..]).ok()?;
                    None
                }
                Ok(ConnectionState::TransmitTlsData(sent)) => {
                    sent.done();
                    None
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.is_ended = true;
                    None
                }
                _ => return None,
            };
            self.kept.drain(..discard);
            self.whole = self.whole.saturating_sub(discard);
            if let Some(last) = last {
                return Some(len + last);
            }
        }
    }
}

/// What is to be sent.
#[derive(Clone, Copy)]
enum Say<'a> {
    Bytes(&'a [u8]),
    End,
}

/// Appends what rustls has ready.
fn append<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Vec<u8>) {
    let at = out.len();
    // It tells how much room it wants, and takes it.
    if let Err(EncodeError::InsufficientSize(wanted)) = data.encode(&mut []) {
        out.resize(at + wanted.required_size, 0);
        let written = data.encode(&mut out[at..]).unwrap_or(0);
        out.truncate(at + written);
    }
}

/// So many bytes at the front are whole records.
fn whole_bytes(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(&[_, _, _, high, low]) = bytes.get(whole..whole + HEADER_BYTES) {
        let len = usize::from(high) << 8 | usize::from(low);
        if len > RECORD_BYTES_MAX {
            return bytes.len(); // rustls says what is wrong
        }
        let end = whole + HEADER_BYTES + len;
        if end > bytes.len() {
            break;
        }
        whole = end;
    }
    whole
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use rustls::client::Resumption;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};
    use rustls::{SupportedProtocolVersion, version};

    use super::*;

    const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];
    const HALF: usize = 32 * 1024;

    fn configs(
        version: &'static SupportedProtocolVersion,
    ) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .unwrap();
        server.ticketer = rustls::crypto::ring::Ticketer::new().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::in_memory_sessions(8);
        (Arc::new(client), Arc::new(server))
    }

    /// Both ends, with nothing but memory between them.
    struct Pair {
        client: ClientConnection,
        server: Session,
        input: Vec<u8>,
        /// What the server has opened.
        heard: Vec<u8>,
        to_client: Vec<u8>,
    }

    impl Pair {
        fn of((client, server): &(Arc<ClientConfig>, Arc<ServerConfig>)) -> Pair {
            let name = ServerName::try_from("localhost").unwrap();
            Pair {
                client: ClientConnection::new(Arc::clone(client), name).unwrap(),
                server: Session::new(Arc::clone(server)).unwrap(),
                input: vec![0; HALF],
                heard: Vec::new(),
                to_client: Vec::new(),
            }
        }

        fn feed(&mut self, bytes: &[u8]) -> Result<(), Error> {
            let kept = self.server.kept_bytes();
            self.input[kept..kept + bytes.len()].copy_from_slice(bytes);
            let mut plain = vec![0; HALF];
            let out = &mut self.to_client;
            let len = self
                .server
                .feed(&mut self.input, bytes.len(), &mut plain, out)?;
            self.heard.extend_from_slice(&plain[..len]);
            Ok(())
        }

        /// What the client has to say.
        fn said(&mut self) -> Vec<u8> {
            let mut said = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut said).unwrap();
            }
            said
        }

        fn answer(&mut self) {
            let sent = std::mem::take(&mut self.to_client);
            let mut sent = &sent[..];
            while !sent.is_empty() {
                self.client.read_tls(&mut sent).unwrap();
                self.client.process_new_packets().unwrap();
            }
        }

        /// Goes on until nobody has anything to say, each of the client's flights cut there.
        fn go_on(&mut self, cut: impl Fn(usize) -> Vec<usize>) {
            loop {
                let said = self.said();
                if said.is_empty() {
                    return;
                }
                let mut from = 0;
                for to in cut(said.len()).into_iter().chain([said.len()]) {
                    if from < to && to <= said.len() {
                        self.feed(&said[from..to]).unwrap();
                        from = to;
                    }
                }
                self.answer();
            }
        }

        fn say(&mut self, text: &[u8]) {
            let mut out = vec![0; SEALED_BYTES];
            for part in text.chunks(RECORD_BYTES) {
                let len = self.server.seal(part, &mut out).unwrap();
                self.to_client.extend_from_slice(&out[..len]);
            }
        }

        fn read(&mut self, len: usize) -> Vec<u8> {
            let mut text = vec![0; len];
            let sent = std::mem::take(&mut self.to_client);
            let (mut sent, mut filled) = (&sent[..], 0);
            while filled < len {
                self.client.read_tls(&mut sent).unwrap();
                self.client.process_new_packets().unwrap();
                filled += self.client.reader().read(&mut text[filled..]).unwrap_or(0);
            }
            text
        }
    }

    /// A handshake, and a text each way, where each flight comes cut like that.
    fn converse(pair: &mut Pair, cut: impl Fn(usize) -> Vec<usize>) {
        pair.go_on(&cut);
        assert!(!pair.server.is_handshaking() && !pair.client.is_handshaking());
        assert_eq!(
            (pair.server.kept.capacity(), pair.server.whole),
            (0, 0),
            "an idle one keeps nothing"
        );
        pair.client
            .writer()
            .write_all(b"what a client says")
            .unwrap();
        pair.client.writer().write_all(b", and more").unwrap();
        pair.go_on(&cut);
        assert_eq!(pair.heard, b"what a client says, and more");
        pair.say(b"what a server says");
        assert_eq!(pair.read(18), b"what a server says");
    }

    #[test]
    fn what_comes_byte_by_byte_is_opened() {
        for version in VERSIONS {
            converse(&mut Pair::of(&configs(version)), |len| (0..len).collect());
        }
    }

    #[test]
    fn what_is_cut_anywhere_is_opened() {
        for version in VERSIONS {
            let configs = configs(version);
            for at in (0..600).step_by(if cfg!(debug_assertions) { 7 } else { 1 }) {
                converse(&mut Pair::of(&configs), |_| vec![at]);
            }
        }
    }

    #[test]
    fn a_client_that_comes_back_is_known_by_its_ticket_in_both_versions() {
        for version in VERSIONS {
            let configs = configs(version);
            converse(&mut Pair::of(&configs), |_| vec![]);
            let mut again = Pair::of(&configs);
            converse(&mut again, |_| vec![3]);
            let kind = again.client.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Resumed), "{version:?}");
        }
    }

    #[test]
    fn large_texts_are_whole_in_both_directions() {
        let text: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        for version in VERSIONS {
            let mut pair = Pair::of(&configs(version));
            pair.go_on(|_| vec![]);
            for part in text.chunks(40_000) {
                pair.client.writer().write_all(part).unwrap();
                pair.go_on(|len| (0..len).step_by(1000).collect());
            }
            assert!(pair.heard == text, "{version:?}");
            pair.say(&text);
            assert!(pair.read(text.len()) == text, "{version:?}");
        }
    }

    #[test]
    fn keys_are_changed_while_a_text_is_under_way() {
        let mut pair = Pair::of(&configs(&version::TLS13));
        pair.go_on(|_| vec![]);
        for _ in 0..5 {
            pair.client.refresh_traffic_keys().unwrap();
            pair.client.writer().write_all(b"under new keys. ").unwrap();
            let said = pair.said();
            // Sealed while half of the change is there.
            for byte in said {
                pair.feed(&[byte]).unwrap();
                pair.say(b"x");
            }
            let len = pair.to_client.len();
            assert!(len > 0);
            let mut sent = &std::mem::take(&mut pair.to_client)[..];
            while !sent.is_empty() {
                pair.client.read_tls(&mut sent).unwrap();
                pair.client.process_new_packets().unwrap();
                let mut text = Vec::new();
                let _ = pair.client.reader().read_to_end(&mut text);
                assert!(text.iter().all(|byte| *byte == b'x'));
            }
        }
        assert_eq!(pair.heard, b"under new keys. ".repeat(5));
    }

    #[test]
    fn an_end_is_heard_and_said() {
        for version in VERSIONS {
            let mut pair = Pair::of(&configs(version));
            pair.go_on(|_| vec![]);
            pair.client.writer().write_all(b"last").unwrap();
            pair.client.send_close_notify();
            pair.go_on(|_| vec![]);
            assert!(pair.server.is_ended());
            assert_eq!(pair.heard, b"last");
            let mut out = vec![0; SEALED_BYTES];
            let len = pair.server.end(&mut out).unwrap();
            let mut sent = &out[..len];
            pair.client.read_tls(&mut sent).unwrap();
            let state = pair.client.process_new_packets().unwrap();
            assert!(state.peer_has_closed());
        }
    }

    #[test]
    fn garbage_is_refused_with_an_alert_wherever_it_comes_and_nothing_panics() {
        for version in VERSIONS {
            let configs = configs(version);
            for at in (0..700_usize).step_by(11) {
                for change in [0x01, 0x80, 0xff] {
                    let mut pair = Pair::of(&configs);
                    let mut is_refused = false;
                    let mut before = 0;
                    while !is_refused {
                        let mut said = pair.said();
                        if said.is_empty() {
                            break;
                        }
                        if let Some(byte) = at.checked_sub(before).and_then(|at| said.get_mut(at)) {
                            *byte ^= change;
                        }
                        before += said.len();
                        is_refused = pair.feed(&said).is_err();
                        let sent = std::mem::take(&mut pair.to_client);
                        if is_refused {
                            // In clear, or sealed.
                            assert!(
                                sent.is_empty() || [21, 22, 23].contains(&sent[0]),
                                "{sent:?}"
                            );
                        }
                        let mut sent = &sent[..];
                        while !sent.is_empty() && pair.client.read_tls(&mut sent).is_ok() {
                            if pair.client.process_new_packets().is_err() {
                                is_refused = true;
                                break;
                            }
                        }
                    }
                    assert!(pair.heard.is_empty());
                    let _ = pair.server.seal(b"x", &mut vec![0; SEALED_BYTES]);
                }
            }
        }
    }

    #[test]
    fn records_are_counted_as_they_come() {
        let record =
            |len: usize| [&[22, 3, 3, (len >> 8) as u8, len as u8][..], &vec![7; len]].concat();
        let two = [record(300), record(0)].concat();
        assert_eq!(whole_bytes(&two), two.len());
        for len in 0..305 {
            assert_eq!(whole_bytes(&two[..len]), 0, "{len}");
        }
        assert_eq!(whole_bytes(&two[..309]), 305);
        let too_long = record(20_000);
        assert_eq!(
            whole_bytes(&too_long[..6]),
            6,
            "who refuses it has it at once"
        );
    }
}
