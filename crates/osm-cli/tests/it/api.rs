//! A cluster of a test's own: a server that keeps objects as the Kubernetes API does, as far as this command uses it.
//! A real one is in the end-to-end tests.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// Objects by their paths, without the query.
type Objects = BTreeMap<String, Value>;

pub(crate) struct Api {
    address: String,
    folder: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: Objects,
    /// Verb and plural that are refused.
    forbidden: Vec<(String, String)>,
    /// What becomes of an object when it is applied: its status, a controller's work.
    on_apply: Vec<(String, Value)>,
    requests: Vec<String>,
    version: u64,
}

impl Api {
    pub(crate) fn start() -> Api {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let name = format!("osm-api-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        let api = Api { address, folder, state: Arc::default() };
        fs::write(api.kubeconfig(), kubeconfig(&api.address)).unwrap();
        let state = Arc::clone(&api.state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = Arc::clone(&state);
                thread::spawn(move || serve(stream, &state));
            }
        });
        api
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    pub(crate) fn osm(&self, words: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_osm"));
        command.args(words.split(' ')).env("KUBECONFIG", self.kubeconfig()).env_remove("OSM_NAMESPACE");
        command.output().unwrap()
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.state.lock().unwrap().put(path, object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().unwrap().objects.get(path).cloned()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.state.lock().unwrap().objects.keys().cloned().collect()
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    pub(crate) fn forbid(&self, verb: &str, plural: &str) {
        self.state.lock().unwrap().forbidden.push((verb.into(), plural.into()));
    }

    /// Lays `more` over every object that is applied and whose path has `part` in it.
    pub(crate) fn on_apply(&self, part: &str, more: Value) {
        self.state.lock().unwrap().on_apply.push((part.into(), more));
    }

    pub(crate) fn with_namespace(self, name: &str, labels: Value) -> Api {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.put(&format!("/api/v1/namespaces/{name}"), object);
        self
    }

    /// A cluster that does what a real one does with what is installed.
    pub(crate) fn that_works(self) -> Api {
        let established = json!({"status": {"conditions": [{"type": "Established", "status": "True"}]}});
        self.on_apply("/customresourcedefinitions/", established);
        let ready =
            json!({"status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}});
        self.on_apply("/deployments/", ready);
        self.on_apply("webhookconfigurations/", json!({"webhooks": [{"clientConfig": {"caBundle": "Zm9v"}}]}));
        self
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn kubeconfig(address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: lab\nclusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]\n\
         contexts: [{{name: lab, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
    )
}

pub(crate) fn unreachable_kubeconfig() -> String {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    kubeconfig(&address.to_string())
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or_default() == 0 {
            return;
        }
        let (mut length, mut header) = (0, String::new());
        while reader.read_line(&mut header).is_ok() && !header.trim().is_empty() {
            if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            header.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let mut words = line.split(' ');
        let (method, uri) = (words.next().unwrap(), words.next().unwrap());
        let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (code, answer) = state.lock().unwrap().answer(method, uri, &body);
        let text = answer.to_string();
        let head =
            format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", text.len());
        if writer.write_all((head + &text).as_bytes()).is_err() {
            return;
        }
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.objects.insert(path.to_owned(), object);
    }

    fn answer(&mut self, method: &str, uri: &str, body: &Value) -> (u16, Value) {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        self.requests.push(format!("{method} {path}"));
        if path.ends_with("/selfsubjectaccessreviews") {
            let asked = &body["spec"]["resourceAttributes"];
            let is_forbidden = self.forbidden.iter().any(|(v, p)| asked["verb"] == **v && asked["resource"] == **p);
            let mut review = body.clone();
            review["status"] = json!({"allowed": !is_forbidden});
            return (201, review);
        }
        let verb = match method {
            "GET" => "get",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "create",
        };
        let is_forbidden = |(v, plural): &(String, String)| v == verb && path.contains(plural.as_str());
        if self.forbidden.iter().any(is_forbidden) {
            return status(403, &format!("{path} is forbidden"));
        }
        match method {
            "PATCH" => self.patch(path, body),
            "DELETE" => match self.objects.remove(path) {
                Some(object) => (200, object),
                None => status(404, &format!("{path} not found")),
            },
            _ => match self.objects.get(path) {
                Some(object) => (200, object.clone()),
                None if is_list(path) => (200, self.list(path, query)),
                None => status(404, &format!("{path} not found")),
            },
        }
    }

    fn patch(&mut self, path: &str, body: &Value) -> (u16, Value) {
        let mut object = match self.objects.get(path) {
            Some(found) => found.clone(),
            None if body["kind"].is_null() => return status(404, &format!("{path} not found")),
            None => json!({}),
        };
        merge(&mut object, body);
        for (part, more) in &self.on_apply {
            if path.contains(part.as_str()) {
                merge(&mut object, more);
            }
        }
        self.put(path, object.clone());
        (200, self.objects[path].clone())
    }

    fn list(&self, path: &str, query: &str) -> Value {
        let plural = path.rsplit('/').next().unwrap();
        let group = path.trim_end_matches(plural);
        let of_kind = |found: &&String| found.starts_with(group) && found.rsplit('/').nth(1) == Some(plural);
        let selector = query.split('&').find_map(|it| it.strip_prefix("labelSelector=")).unwrap_or_default();
        let selector = selector.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
        let fits = |object: &Value| {
            selector.split(',').filter(|it| !it.is_empty()).all(|it| match it.split_once('=') {
                Some((key, value)) => object["metadata"]["labels"][key] == value,
                None => object["metadata"]["labels"][it].is_string(),
            })
        };
        let found = self.objects.iter().filter(|(path, object)| of_kind(path) && fits(object));
        let items: Vec<&Value> = found.map(|(_, object)| object).collect();
        json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
    }
}

/// The last part of a path is a plural for lists, and a name for objects; before a plural there is a version or the
/// name of a namespace.
fn is_list(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let after_version = if parts[0] == "api" { &parts[2..] } else { &parts[3..] };
    match after_version {
        ["namespaces", _, _] | [_] => true,
        // The last one is a door into a pod, which does not open here.
        ["namespaces", _] | ["namespaces", _, _, _] | [_, _] | ["namespaces", _, _, _, _] => false,
        _ => panic!("cannot read the path {path}"),
    }
}

fn status(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "AlreadyExists",
        _ => "",
    };
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure"});
    (status["code"], status["message"], status["reason"]) = (code.into(), message.into(), reason.into());
    (code, status)
}

/// Maps and lists item by item; null takes away.
fn merge(value: &mut Value, over: &Value) {
    match (value, over) {
        (Value::Object(fields), Value::Object(over)) => {
            for (key, more) in over {
                if more.is_null() {
                    fields.remove(key);
                } else {
                    merge(fields.entry(key.clone()).or_insert(Value::Null), more);
                }
            }
        }
        (Value::Array(items), Value::Array(over)) if over.len() <= items.len() => {
            // One item of a controller's work is meant for all.
            for (index, item) in items.iter_mut().enumerate() {
                merge(item, over.get(index).unwrap_or(&over[over.len() - 1]));
            }
        }
        (value, over) => *value = over.clone(),
    }
}
