use countersign_front::Fields;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};

use super::{
    EndpointTable, EnvironmentScope, FoundEndpoint, RequestError,
    api::{ApiOperation, ENDPOINTS},
    openapi,
};

fn table(endpoints: &Value) -> EndpointTable {
    let mut table = EndpointTable::default();
    table.add_file(&json!({ "endpoints": endpoints }).to_string()).unwrap();
    table
}

/// Returns the properties of an endpoint with this environment and these parameters.
fn endpoint(environment: Value, parameters: Value) -> Value {
    json!({
        "client_types": ["api"],
        "auth_label": "x.read",
        "read_only": true,
        "environment_param": environment,
        "parameters": parameters,
    })
}

fn find<'t>(table: &'t EndpointTable, method: &str, target: &str) -> FoundEndpoint<'t> {
    try_find(table, method, target, &HeaderMap::new()).unwrap()
}

fn try_find<'t>(
    table: &'t EndpointTable,
    method: &str,
    target: &str,
    headers: &dyn Fields,
) -> Result<FoundEndpoint<'t>, RequestError> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    table.find(method, path, query, headers)
}

#[test]
fn api_endpoints_are_in_the_table() {
    let table = EndpointTable::of_api();
    for endpoint in ENDPOINTS {
        let found = table.get(&endpoint.id()).expect("in the table");
        assert_eq!(&*found.client_types, endpoint.client_types);
        let environment = endpoint.environment.map(|name| EnvironmentScope::Parameter(name.into()));
        assert_eq!(found.environment, environment.unwrap_or(EnvironmentScope::Global));
        let path = endpoint.path.replace('<', "x").replace('>', "");
        let by_request = find(&table, endpoint.method, &path);
        assert_eq!(by_request.id, endpoint.id());
    }
    assert_eq!(table.data()["endpoints"].as_object().unwrap().len(), ENDPOINTS.len());
    assert!(ENDPOINTS.iter().any(|endpoint| endpoint.operation == ApiOperation::Health));
}

#[test]
fn parameter_names_may_differ_between_methods() {
    let plain = || endpoint(Value::Null, json!({}));
    let table = table(&json!({
        "GET /a/<one>/b": plain(),
        "PUT /a/{other}/b": plain(),
        "GET /a/static/b": plain(),
        "GET /a/": plain(),
    }));
    assert_eq!(
        find(&table, "GET", "/a/x/b").parameters,
        Map::from_iter([("one".into(), "x".into())])
    );
    assert_eq!(find(&table, "PUT", "/a/x/b").parameters["other"], "x");
    assert_eq!(find(&table, "HEAD", "/a/x/b").id, "GET /a/<one>/b");
    assert_eq!(find(&table, "GET", "/a/static/b").id, "GET /a/static/b");
    assert_eq!(find(&table, "GET", "/a/").id, "GET /a/");
    for (method, path) in [("GET", "/b"), ("DELETE", "/a/x/b"), ("GET", "/a/x/c")] {
        let found = find(&table, method, path);
        assert!(found.endpoint.is_none(), "{method} {path}");
        assert_eq!(found.id, format!("{method} {path}"));
    }
}

#[test]
fn e7_path_similar_to_that_of_another_endpoint_is_refused() {
    let plain = || endpoint(Value::Null, json!({}));
    let table = table(&json!({
        "GET /res/<id>": plain(),
        "GET /res/admin": plain(),
        "GET /res/<id>/<part>": plain(),
        "GET /list/": plain(),
        "GET /list/<id>": plain(),
        "GET /list": plain(),
        "GET /Twin": plain(),
        "GET /twin": plain(),
    }));
    for (method, path) in [
        ("GET", "/res/Admin"),
        ("HEAD", "/res/ADMIN"),
        ("GET", "/res/adm\u{131}n"),
        ("GET", "/res/admin/"),
        ("GET", "/Res/x"),
        ("GET", "/res/a%2Fb"),
        ("GET", "/res%2Fadmin"),
        ("get", "/res/admin"),
        ("GET", "/TWIN"),
    ] {
        let found = try_find(&table, method, path, &HeaderMap::new());
        let found = found.map(|found| found.id);
        assert_eq!(found, Err(RequestError::SimilarPath), "{method} {path}");
    }
    for (path, id) in [
        ("/res/admin", "GET /res/admin"),
        ("/res/x", "GET /res/<id>"),
        ("/res/admins", "GET /res/<id>"),
        ("/list", "GET /list"),
        ("/list/", "GET /list/"),
        ("/list/x", "GET /list/<id>"),
        ("/Twin", "GET /Twin"),
        ("/twin", "GET /twin"),
        ("/other", "GET /other"),
    ] {
        assert_eq!(find(&table, "GET", path).id, id);
    }
}

#[test]
fn parameters_come_from_path_query_and_headers() {
    let table = table(&json!({
        "POST /n/<id>": endpoint("X-Env".into(), json!({
            "update": {"in": "query", "type": "boolean", "default": true},
            "count": {"in": "query", "type": "integer"},
            "tag": {"in": "query", "type": "array"},
            "uid": {"in": "query", "type": "uuid"},
            "note": {"in": "body", "default": null},
        })),
    }));
    let headers = HeaderMap::from_iter([("x-env".parse().unwrap(), HeaderValue::from_static("e"))]);
    let found =
        |target: &str| try_find(&table, "POST", target, &headers).map(|found| found.parameters);
    assert_eq!(
        Value::Object(found("/n/7?count=2&tag=a&tag=b%2Bc&free=x+y").unwrap()),
        json!({"id": "7", "X-Env": "e", "count": 2, "tag": ["a", "b+c"], "free": "x y",
               "update": true, "note": null})
    );
    let uid = "AAAAAAAA-1111-1111-1111-111111111111";
    let parameters = found(&format!("/n/7?update=False&uid={uid}&id=7")).unwrap();
    assert_eq!(parameters["update"], false);
    assert_eq!(parameters["uid"], uid.to_lowercase());
    for (target, error) in [
        ("/n/7?update=yes", RequestError::OtherType("update".into())),
        ("/n/7?count=1.5", RequestError::OtherType("count".into())),
        ("/n/7?id=8", RequestError::Repeated("id".into())),
        ("/n/7?X-Env=f", RequestError::Repeated("X-Env".into())),
        ("/n/7?a=1&a=2", RequestError::Repeated("a".into())),
        ("/n/7?a=%ff", RequestError::Encoding),
    ] {
        assert_eq!(found(target), Err(error), "{target}");
    }
    let mut twice = headers.clone();
    twice.append("x-env", HeaderValue::from_static("f"));
    let found = try_find(&table, "POST", "/n/7", &twice).map(|found| found.parameters);
    assert_eq!(found, Err(RequestError::Repeated("X-Env".into())));
}

#[test]
fn e7_parameters_of_other_places_are_not_taken_from_the_query() {
    let table = table(&json!({
        "POST /n/<id>": endpoint("X-Env".into(), json!({
            "update": {"in": "body", "type": "boolean", "default": true},
            "X-Mode": {"in": "header"},
            "tags": {"in": "header", "type": "array"},
            "full": {"in": "query", "type": "boolean"},
        })),
        "GET /report": endpoint("environment".into(), json!({})),
    }));
    let lines = [("x-env", "e"), ("tags", "a")];
    let lines = lines.map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
    let headers = HeaderMap::from_iter(lines);
    let post = |query: &str| try_find(&table, "POST", &format!("/n/7?{query}"), &headers);
    for query in
        ["X-Env=e", "id=7", "tags=a", "full=true&full=True", "f%5Bx%5D=1&f%5By%5D=2", "b=1&B=1"]
    {
        assert!(post(query).is_ok(), "{query}");
    }
    for (query, error) in [
        ("update=true", RequestError::OtherPlace("update".into())),
        ("X-Mode=x", RequestError::OtherPlace("X-Mode".into())),
        ("X-Env=f", RequestError::Repeated("X-Env".into())),
        ("tags=b", RequestError::Repeated("tags".into())),
        ("id=8", RequestError::Repeated("id".into())),
    ] {
        assert_eq!(post(query).map(|found| found.parameters), Err(error), "{query}");
    }
    for query in [
        "x-env=e",
        "X-ENV=f",
        "ID=7",
        "id[]=8",
        "id[0]=8",
        "+id=8",
        "id+=8",
        "id%00=8",
        "id%00x=8",
        "%EF%BD%89d=8",
        "FULL=true",
        "Update=false",
        "a=1&A=2",
        "a=1&a[]=2",
        "a=1&a[0]=2",
        "a[0]=2&a=1",
        "a.b=1&a_b=2",
    ] {
        let found = post(query).map(|found| found.parameters);
        assert!(matches!(found, Err(RequestError::Spelling(_))), "{query}: {found:?}");
    }
    let get = |query: &str| try_find(&table, "GET", &format!("/report?{query}"), &headers);
    assert_eq!(get("environment=e").unwrap().parameters["environment"], "e");
    for query in ["Environment=e", "environment=e&environment[]=f", "environment%00=e"] {
        assert!(get(query).is_err(), "{query}");
    }
}

#[test]
fn body_may_repeat_a_parameter_of_the_path() {
    let table = EndpointTable::of_api();
    let call = |body: Value| {
        let path = Map::from_iter([("username".to_owned(), "bob".into())]);
        let body = body.as_object().unwrap().clone();
        table.api_call("DELETE /api/v2/user/<username>".into(), path, body)
    };
    assert!(call(json!({"username": "bob"})).is_ok());
    assert_eq!(
        call(json!({"username": "eve"})).map(|found| found.parameters),
        Err(RequestError::Repeated("username".into()))
    );
}

#[test]
fn endpoint_file_errors_name_the_endpoint() {
    let error = |text: &str| EndpointTable::default().add_file(text).unwrap_err().to_string();
    let of = |id: &str, properties: &str| error(&format!(r#"{{"{id}": {properties}}}"#));
    let good = endpoint(Value::Null, json!({})).to_string();
    for (text, expected) in [
        (error("[]"), "not a JSON object"),
        (of("GET", &good), "endpoint GET: an endpoint is a method and a path"),
        (of("get /x", &good), "write it in upper case"),
        (of("GET x", &good), "an endpoint is a method and a path"),
        (of("GET /<a>/<a>", &good), "has no name of its own"),
        (of("GET /x<a>", &good), "not a whole segment"),
        (of("GET /x", "{}"), "missing field `client_types`"),
        (of("GET /x", &good.replace("read_only", "readonly")), "readonly"),
        (of("GET /x", &good.replace("\"api\"", "\"user\"")), "choose agent, compiler or api"),
        (error(&format!(r#"{{"GET /x": {good}, "GET /x": {good}}}"#)), "the file has it twice"),
        (
            error(&format!(r#"{{"GET /<a>": {good}, "GET /{{b}}": {good}}}"#)),
            "same method and path",
        ),
    ] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn file_calls_take_tokens_of_any_environment() {
    let plain = || endpoint(Value::Null, json!({}));
    let table = table(&json!({
        "GET /api/v1/file/<id>": plain(),
        "POST /api/v1/file": plain(),
        "POST /api/v1/filediff": plain(),
    }));
    let scope = |id: &str| table.get(id).unwrap().environment.clone();
    assert_eq!(scope("GET /api/v1/file/<id>"), EnvironmentScope::Any);
    assert_eq!(scope("POST /api/v1/file"), EnvironmentScope::Any);
    assert_eq!(scope("POST /api/v1/filediff"), EnvironmentScope::Global);
}

#[test]
fn openapi_document_becomes_an_endpoint_file() {
    let document = json!({
        "openapi": "3.1.0",
        "servers": [{"url": "https://api.example/base/"}],
        "x-client-types": ["api", "agent"],
        "paths": {
            "/orders/{id}": {
                "parameters": [{"$ref": "#/components/parameters/Id"}],
                "get": {
                    "tags": ["Order"],
                    "parameters": [
                        {"name": "X-Env", "in": "header", "schema": {"type": "string"}},
                        {"name": "full", "in": "query",
                         "schema": {"anyOf": [{"type": "boolean"}, {"type": "null"}], "default": false}},
                    ],
                    "x-environment-param": "X-Env",
                },
                "post": {
                    "x-auth-label": "order.notify",
                    "x-client-types": ["api"],
                    "requestBody": {"content": {"application/json": {"schema":
                        {"$ref": "#/components/schemas/Notify"}}}},
                },
            },
        },
        "components": {
            "parameters": {"Id": {"name": "id", "in": "path",
                "schema": {"type": "string", "format": "uuid"}}},
            "schemas": {"Notify": {"properties": {
                "update": {"type": "boolean", "default": true}, "text": {"type": "string"}}}},
        },
    });
    let id = json!({"in": "path", "type": "uuid"});
    let expected = json!({"endpoints": {
        "GET /base/orders/<id>": {
            "auth_label": "order.read", "client_types": ["api", "agent"],
            "environment_param": "X-Env", "read_only": true,
            "parameters": {"id": id, "X-Env": {"in": "header"},
                "full": {"in": "query", "type": "boolean", "default": false}},
        },
        "POST /base/orders/<id>": {
            "auth_label": "order.notify", "client_types": ["api"],
            "environment_param": null, "read_only": false,
            "parameters": {"id": id, "update": {"in": "body", "type": "boolean", "default": true}},
        },
    }});
    assert_eq!(openapi::import(&document, None), Ok(expected));
    let at = |base| openapi::import(&document, Some(base)).unwrap();
    assert!(at("/v2")["endpoints"]["GET /v2/orders/<id>"].is_object());
    for (change, expected) in [
        (json!({"openapi": "2.0"}), "version 3"),
        (json!({"paths": 1}), "no paths"),
        (json!({"x-client-types": ["user"]}), "choose agent, compiler or api"),
        (json!({"components": {}}), "leads outside the document"),
    ] {
        let mut document = document.clone();
        document.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = openapi::import(&document, None).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
