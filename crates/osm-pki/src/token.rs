//! Tokens of the local runner: signed JSON (RFC 7519, HS256) that says which pod its bearer is.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// The length of a new key: that of the hash, as RFC 7518 asks.
pub const TOKEN_KEY_BYTES: usize = 32;

/// The longest token that is read; ours have about 400 bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The longest key that is read, so that a wrong file is noticed.
const MAX_KEY_BYTES: usize = 1024;

/// The one header that is written and accepted. Comparing it whole leaves nothing to be negotiated, `none` included.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// The key that signs and checks tokens.
pub struct TokenKey {
    bytes: Zeroizing<Vec<u8>>,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// For whom the token is meant; ours are for `osm`.
    pub aud: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The service account that the pod runs as.
    pub service_account: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub pod_uid: String,
    /// From when on the token is worth nothing; whole seconds are kept.
    #[serde(with = "jiff::fmt::serde::timestamp::second::required")]
    pub exp: Timestamp,
}

/// Why a token is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than any honest one.
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// Not three parts of base64url.
    #[error("the token is not a signed JSON web token")]
    Malformed,
    /// Another header.
    #[error("the token is not signed with HS256 as the runner's own are")]
    Header,
    /// Changed, or signed by somebody else.
    #[error("the token's signature is wrong: it was changed, or signed with another key")]
    Signature,
    /// Signed, but not what we write.
    #[error("the token's claims cannot be read: {0}")]
    Claims(String),
    /// Meant for somebody else.
    #[error("the token is for audience {found:?}, not {expected:?}")]
    Audience {
        /// Whom it is for.
        found: String,
        /// Whom it should be for.
        expected: String,
    },
    /// Too old.
    #[error("the token expired at {0}")]
    Expired(Timestamp),
}

/// Why bytes are no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token key has {TOKEN_KEY_BYTES} to {MAX_KEY_BYTES} bytes, not {0}")]
pub struct TokenKeyError(usize);

/// What tells one token from another without being worth anything to a thief: its SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenDigest([u8; 32]);

/// The digest of a token.
pub fn digest_token(token: &str) -> TokenDigest {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    TokenDigest(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// Signs `claims`.
pub fn mint(key: &TokenKey, claims: &Claims) -> String {
    let body = serde_json::to_vec(claims).expect("claims are strings and one number");
    let mut token = URL_SAFE_NO_PAD.encode(HEADER);
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(body));
    let signature = hmac::sign(&key.hmac(), token.as_bytes());
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    token
}

/// What `token` says, if `key` signed it for `audience` and it has not expired at `now`.
///
/// The signature is compared in constant time, and nothing of the claims is read before it is right.
///
/// # Errors
/// Says which of these failed.
pub fn verify(key: &TokenKey, token: &str, audience: &str, now: Timestamp) -> Result<Claims, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::TooLong);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
    let (header, body) = signed.split_once('.').ok_or(TokenError::Malformed)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed);
    let (header, body, signature) = (decode(header)?, decode(body)?, decode(signature)?);
    if header != HEADER.as_bytes() {
        return Err(TokenError::Header);
    }
    hmac::verify(&key.hmac(), signed.as_bytes(), &signature).map_err(|_| TokenError::Signature)?;
    let claims: Claims = serde_json::from_slice(&body).map_err(|error| TokenError::Claims(error.to_string()))?;
    if claims.aud != audience {
        return Err(TokenError::Audience { found: claims.aud, expected: audience.to_owned() });
    }
    if claims.exp <= now {
        return Err(TokenError::Expired(claims.exp));
    }
    Ok(claims)
}

impl TokenKey {
    /// A new random key.
    pub fn generate() -> TokenKey {
        let mut bytes = Zeroizing::new(vec![0u8; TOKEN_KEY_BYTES]);
        SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes on every system that runs a mesh");
        TokenKey { bytes }
    }

    /// The key that a file holds: its bytes as they are. The argument is wiped.
    ///
    /// # Errors
    /// When there are fewer than [`TOKEN_KEY_BYTES`], or far too many.
    pub fn from_bytes(mut bytes: Vec<u8>) -> Result<TokenKey, TokenKeyError> {
        let len = bytes.len();
        if !(TOKEN_KEY_BYTES..=MAX_KEY_BYTES).contains(&len) {
            bytes.zeroize();
            return Err(TokenKeyError(len));
        }
        Ok(TokenKey { bytes: Zeroizing::new(bytes) })
    }

    /// The bytes to keep in a file that only its owner can read.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        self.bytes.clone()
    }

    fn hmac(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.bytes)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}
