//! Whom a token names, read without checking the signature: only the controller can check it. Good for noticing that
//! the pod's token is now another's, and for nothing else.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use zeroize::Zeroizing;

/// Longer files are not tokens.
const TOKEN_LIMIT_BYTES: u64 = 64 * 1024;

/// What of a token stays the same when it is renewed: the service account and the pod, as Kubernetes and as the local
/// runner write them.
const CLAIMS: [&str; 9] = [
    "/sub",
    "/kubernetes.io/namespace",
    "/kubernetes.io/serviceaccount/name",
    "/kubernetes.io/serviceaccount/uid",
    "/kubernetes.io/pod/uid",
    "/namespace",
    "/service_account",
    "/pod",
    "/pod_uid",
];

/// Whom the token names; empty if it is no JSON web token or names nobody.
pub fn token_subject(token: &[u8]) -> String {
    let claims = || -> Option<Value> {
        let body = token.trim_ascii().split(|byte| *byte == b'.').nth(1)?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()
    };
    let Some(claims) = claims() else { return String::new() };
    let named = CLAIMS.iter().filter_map(|path| claims.pointer(path)?.as_str());
    named.collect::<Vec<_>>().join(" ")
}

/// The same for a file; empty if it cannot be read.
pub(super) fn subject_in(file: &Path) -> String {
    let read = || {
        let mut token = Zeroizing::new(Vec::new());
        File::open(file)?.take(TOKEN_LIMIT_BYTES).read_to_end(&mut token)?;
        Ok::<_, std::io::Error>(token)
    };
    read().map(|token| token_subject(&token)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> Vec<u8> {
        format!("e30.{}.c2ln\n", URL_SAFE_NO_PAD.encode(claims)).into_bytes()
    }

    #[test]
    fn a_renewed_token_names_the_same_and_another_pods_token_does_not() {
        let of = |pod: &str, exp: u32| {
            token(&format!(
                r#"{{"sub":"system:serviceaccount:shop:client","exp":{exp},"jti":"{exp}",
                   "kubernetes.io":{{"namespace":"shop","pod":{{"name":"c","uid":"{pod}"}}}}}}"#
            ))
        };
        assert_eq!(token_subject(&of("u1", 1)), "system:serviceaccount:shop:client shop u1");
        assert_eq!(token_subject(&of("u1", 1)), token_subject(&of("u1", 2)));
        assert_ne!(token_subject(&of("u1", 1)), token_subject(&of("u2", 1)));
        let of_runner = r#"{"aud":"osm","namespace":"shop","service_account":"c","pod":"c-0","pod_uid":"u","exp":7}"#;
        assert_eq!(token_subject(&token(of_runner)), "shop c c-0 u");
    }

    #[test]
    fn what_is_no_token_names_nobody() {
        for text in ["", "opaque", "a.b.c", "...", "e30.e30.e30"] {
            assert_eq!(token_subject(text.as_bytes()), "", "{text}");
        }
        assert_eq!(subject_in(Path::new("/nowhere/token")), "");
    }
}
