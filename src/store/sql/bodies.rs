//! Bodies of answers, which are kept in zlib's format (RFC 1950) where that is
//! worth it.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;

use super::codes::bad;
use crate::store::error::StoreError;

/// Bodies below this size are kept as they are, in bytes.
const COMPRESSED_BYTES_MIN: usize = 512;

/// The body in zlib's format, if that is worth it.
pub fn deflate(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < COMPRESSED_BYTES_MIN {
        return None;
    }
    let mut writer = ZlibEncoder::new(Vec::new(), Compression::fast());
    let deflated = writer.write_all(body).and_then(|()| writer.finish()).ok()?;
    (deflated.len() < body.len()).then_some(deflated)
}

/// What [`deflate`] was given.
pub fn inflate(deflated: &[u8]) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    ZlibDecoder::new(deflated).read_to_end(&mut body).map_err(|_| bad("response_body"))?;
    Ok(body)
}
