//! Golden: the objects that are there and one AdmissionReview in, its answer out. `# keep:` pins parts of the object
//! as the patch leaves it.

use osm_testkit::Case;
use serde_json::Map;

use super::*;

#[test]
fn questions_are_answered_as_it_is_written() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    osm_testkit::golden(env!("CARGO_MANIFEST_DIR"), "admission", |case| runtime.block_on(answer(case)));
}

async fn answer(case: &Case) -> String {
    let documents = case.input.split("\n---\n");
    let (reviews, manifests): (Vec<&str>, Vec<&str>) =
        documents.partition(|document| document.contains("kind: AdmissionReview"));
    let review: Value = serde_saphyr::from_str(reviews[0]).unwrap();
    let request = question(&review);
    let (webhooks, mut notices) = webhooks(Some(&manifests.join("\n---\n")), None);
    let object = request.object.clone();
    let answer = match case.option("webhook") {
        Some("mutating") => webhooks.mutate(request).await,
        Some("validating") => webhooks.validate(request).await,
        other => panic!("{}: `# webhook: mutating` or `validating`, not {other:?}", case.name),
    };
    let mut out = json!({});
    let mut response = answer.to_review("u-1")["response"].clone();
    response.as_object_mut().unwrap().retain(|key, _| key != "patch" && key != "uid");
    out["response"] = response;
    if let Some(patch) = &answer.patch {
        let mut patched = object;
        json_patch::patch(&mut patched, patch).unwrap();
        let keep = case.option("keep").expect("`# keep:` parts of the object").split(", ");
        let part = |path: &str| patched.pointer(&format!("/{}", path.replace('.', "/"))).cloned();
        out["object"] =
            keep.map(|path| (path.to_owned(), part(path).unwrap_or_default())).collect::<Map<_, _>>().into();
    }
    if let Ok(Notice { about, message }) = notices.try_recv() {
        out["event"] = json!({"about": about, "message": message});
    }
    serde_saphyr::to_string(&out).unwrap()
}
