//! A look at a request's head as it arrives: whether it gives its body's length in two ways.
//!
//! A proxy that believes the one and a server that believes the other see different requests (request smuggling). hyper goes
//! by `Transfer-Encoding` and drops `Content-Length` unseen, so the look is taken at the bytes.

/// Reads heads in whatever pieces they come.
#[derive(Default)]
pub(super) struct Heads {
    /// The line that is being read, lower case, as far as names of interest go.
    line: Vec<u8>,
    lines: usize,
    length: bool,
    encoding: bool,
    ended: bool,
}

const LENGTH: &[u8] = b"content-length";
const ENCODING: &[u8] = b"transfer-encoding";

impl Heads {
    /// Takes the next bytes; returns whether the head has both headers. Bytes behind the head are passed over.
    pub(super) fn is_ambiguous(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            if self.ended {
                break;
            }
            match byte {
                b'\n' => self.end_line(),
                b'\r' => {}
                _ if self.line.len() <= ENCODING.len() => self.line.push(byte.to_ascii_lowercase()),
                _ => {}
            }
        }
        self.length && self.encoding
    }

    fn end_line(&mut self) {
        // Empty lines before the request line are allowed; one behind it ends the head.
        self.ended = self.lines > 0 && self.line.is_empty();
        self.lines += usize::from(!self.line.is_empty());
        let name = self
            .line
            .split(|byte| matches!(byte, b':' | b' ' | b'\t'))
            .next()
            .unwrap_or_default();
        self.length |= self.lines > 1 && name == LENGTH;
        self.encoding |= self.lines > 1 && name == ENCODING;
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> bool {
        Heads::default().is_ambiguous(text.as_bytes())
    }

    #[test]
    fn only_a_head_with_both_is_ambiguous() {
        assert!(whole(
            "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(whole(
            "\r\nPOST / HTTP/1.1\r\ntransfer-encoding : chunked\r\nhost: a\r\ncontent-length:4\r\n\r\n"
        ));
        assert!(!whole(
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nTransfer-Encoding: chunked\r\n"
        ));
        assert!(!whole(
            "POST /content-length HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        assert!(!whole(
            "content-length: 1\r\nTransfer-Encoding: chunked\r\nX-Content-Length: 4\r\n\r\n"
        ));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(cut in 0_usize..80) {
            let text = b"POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
            let (first, second) = text.split_at(cut.min(text.len()));
            let mut heads = Heads::default();
            let early = heads.is_ambiguous(first);
            prop_assert!(early || heads.is_ambiguous(second));
        }
    }
}
