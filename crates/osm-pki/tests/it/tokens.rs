//! Tokens: what was minted is read again, and nothing else is believed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use osm_pki::{Claims, MAX_TOKEN_BYTES, TOKEN_KEY_BYTES, TokenError, TokenKey, mint, verify};
use proptest::prelude::*;

use super::now;

#[test]
fn a_token_is_what_other_libraries_write() {
    let token = mint(&key(b'k'), &claims());
    let (header, rest) = token.split_once('.').unwrap();
    let (body, _) = rest.split_once('.').unwrap();
    let text = |part: &str| String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    assert_eq!(text(header), r#"{"alg":"HS256","typ":"JWT"}"#);
    assert_eq!(
        text(body),
        r#"{"aud":"osm","namespace":"shop","service_account":"client","pod":"client-0","pod_uid":"u-1","exp":1800000600}"#
    );
}

#[test]
fn the_signature_is_that_of_another_implementation() {
    // HMAC-SHA256 with a key of 32 bytes k over the signing input, computed by openssl dgst -mac HMAC.
    let token = mint(&key(b'k'), &claims());
    let (_, signature) = token.rsplit_once('.').unwrap();
    assert_eq!(signature, "Y_mQS9jW217gF2O-o_fgaV9M23vcgClAGclB1qfukTo");
}

#[test]
fn each_lie_is_named() {
    let key_of_runner = key(b'k');
    let token = mint(&key_of_runner, &claims());
    let check = |token: &str, audience: &str, at: Timestamp| verify(&key_of_runner, token, audience, at);

    check(&token, "osm", now()).unwrap();
    let late = now() + SignedDuration::from_mins(10);
    assert_eq!(check(&token, "osm", late), Err(TokenError::Expired(claims().exp)));
    let audience = TokenError::Audience { found: "osm".to_owned(), expected: "other".to_owned() };
    assert_eq!(check(&token, "other", now()), Err(audience));
    assert_eq!(verify(&key(b'x'), &token, "osm", now()), Err(TokenError::Signature));
    assert_eq!(check("", "osm", now()), Err(TokenError::Malformed));
    assert_eq!(check("a.b", "osm", now()), Err(TokenError::Malformed));
    assert_eq!(check("?.?.?", "osm", now()), Err(TokenError::Malformed));
    assert_eq!(check(&"a".repeat(MAX_TOKEN_BYTES + 1), "osm", now()), Err(TokenError::TooLong));
    let body = token.split('.').nth(1).unwrap();
    let unsigned = format!("{}.{body}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#));
    assert_eq!(check(&unsigned, "osm", now()), Err(TokenError::Header));
}

#[test]
fn keys_of_a_wrong_length_are_refused() {
    assert!(TokenKey::from_bytes(vec![1; TOKEN_KEY_BYTES - 1]).is_err());
    assert!(TokenKey::from_bytes(vec![1; 4096]).is_err());
    let made = TokenKey::generate();
    assert_eq!(made.to_bytes().len(), TOKEN_KEY_BYTES);
    assert_ne!(made.to_bytes(), TokenKey::generate().to_bytes());
    let loaded = TokenKey::from_bytes(made.to_bytes().to_vec()).unwrap();
    verify(&loaded, &mint(&made, &claims()), "osm", now()).unwrap();
    assert_eq!(format!("{made:?}"), "TokenKey(..)");
}

proptest! {
    #[test]
    fn a_token_round_trips(
        namespace: String,
        service_account: String,
        pod: String,
        pod_uid: String,
        exp_s in 1_800_000_001i64..250_000_000_000,
    ) {
        let exp = Timestamp::from_second(exp_s).unwrap();
        let claims = Claims { aud: "osm".to_owned(), namespace, service_account, pod, pod_uid, exp };
        let token = mint(&key(b'k'), &claims);
        if token.len() <= MAX_TOKEN_BYTES {
            prop_assert_eq!(verify(&key(b'k'), &token, "osm", now()), Ok(claims));
        }
    }

    #[test]
    fn a_changed_token_is_not_believed(position: prop::sample::Index, replacement in "[A-Za-z0-9_.-]") {
        let mut token = mint(&key(b'k'), &claims()).into_bytes();
        let changed = position.get_mut(&mut token);
        prop_assume!(*changed != replacement.as_bytes()[0]);
        *changed = replacement.as_bytes()[0];
        let token = String::from_utf8(token).unwrap();
        prop_assert!(verify(&key(b'k'), &token, "osm", now()).is_err());
    }

    #[test]
    fn arbitrary_text_is_refused_without_a_panic(text: String, parts in prop::array::uniform3("[A-Za-z0-9_-]{0,40}")) {
        prop_assert!(verify(&key(b'k'), &text, "osm", now()).is_err());
        prop_assert!(verify(&key(b'k'), &parts.join("."), "osm", now()).is_err());
    }
}

fn key(byte: u8) -> TokenKey {
    TokenKey::from_bytes(vec![byte; TOKEN_KEY_BYTES]).unwrap()
}

fn claims() -> Claims {
    Claims {
        aud: "osm".to_owned(),
        namespace: "shop".to_owned(),
        service_account: "client".to_owned(),
        pod: "client-0".to_owned(),
        pod_uid: "u-1".to_owned(),
        exp: now() + SignedDuration::from_mins(10),
    }
}
