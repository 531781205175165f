use std::collections::BTreeMap;

use osm_api::ManifestSet;

use super::*;

fn status() -> TokenReviewStatus {
    let extra = [(POD_NAME, "client-1"), (POD_UID, "u-1")].map(|(key, value)| (key.to_owned(), vec![value.to_owned()]));
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(vec!["osm".to_owned()]),
        error: None,
        user: Some(UserInfo {
            username: Some("system:serviceaccount:shop:client".to_owned()),
            extra: Some(BTreeMap::from(extra)),
            ..UserInfo::default()
        }),
    }
}

fn world(pod: &str) -> World {
    let mut world = World::default();
    for change in ManifestSet::default().put("pod.yaml", pod).changes {
        world.apply(change);
    }
    world
}

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: client-1, namespace: shop, uid: u-1}, \
                   spec: {serviceAccountName: client, containers: [{name: app}]}}";

#[test]
fn a_review_says_which_pod_a_token_is_bound_to() {
    let bound = bound(&status()).unwrap();
    assert_eq!(bound.proxy.pod.to_string(), "shop/client-1");
    assert_eq!(bound.proxy.identity.service_account, "client");
    assert_eq!(belongs(&bound, &world(POD)), Ok(()));
}

#[test]
fn what_is_not_a_pods_own_token_for_us_is_refused_with_a_reason() {
    let change = |change: fn(&mut TokenReviewStatus)| {
        let mut status = status();
        change(&mut status);
        bound(&status).unwrap_err().to_string()
    };
    let user =
        |status: &mut TokenReviewStatus, name: &str| status.user.as_mut().unwrap().username = Some(name.to_owned());
    for (error, words) in [
        (change(|s| s.authenticated = Some(false)), "does not know it"),
        (change(|s| (s.authenticated, s.error) = (None, Some("expired".to_owned()))), "refused: expired"),
        (change(|s| s.audiences = Some(vec!["api".to_owned()])), "not for audience"),
        (change(|s| s.audiences = None), "not for audience"),
        (change(|s| s.user = None), "does not belong to a service account"),
        (change(|s| drop(s.user.as_mut().unwrap().extra.as_mut().unwrap().remove(POD_UID))), "not bound to a pod"),
    ] {
        assert!(error.contains(words), "{error}");
    }
    let mut of_a_person = status();
    user(&mut of_a_person, "alice");
    assert!(bound(&of_a_person).is_err());
}

#[test]
fn a_token_is_worth_nothing_for_a_pod_that_is_not_its_own() {
    let bound = bound(&status()).unwrap();
    for (world, words) in [
        (World::default(), "there is no such pod"),
        (world(&POD.replace("u-1", "u-2")), "bound to uid u-1, but the pod of that name has u-2"),
        (world(&POD.replace("serviceAccountName: client", "serviceAccountName: other")), "it runs as other"),
        (world(&POD.replace("serviceAccountName: client, ", "")), "it runs as default"),
        (world(&POD.replace("namespace: shop", "namespace: elsewhere")), "there is no such pod"),
    ] {
        let error = belongs(&bound, &world).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}
