use countersign_tests::{binary::Sandbox, client::Protocol, http::Response, over_every_protocol};
use serde_json::{Value, json};

use super::{Api, ENVIRONMENT, OTHER, TEST_PROJECT, assert_done, configuration, data, refused};
use crate::fixture;

over_every_protocol!(
    projects_are_added_renamed_and_deleted,
    environments_are_added_changed_and_deleted,
);

const PROJECT: &str = "33333333-3333-3333-3333-333333333333";
const NO_PROJECT: &str = "00000000-0000-0000-0000-000000000000";
const NO_SUCH_PROJECT: &str = "The project with given id does not exist.";

/// Returns the JSON of an answer of version 1, which has no envelope.
#[track_caller]
fn v1(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

fn environment(id: &str, name: &str, project: &str) -> Value {
    json!({
        "id": id,
        "name": name,
        "project_id": project,
        "repo_url": "",
        "repo_branch": "",
        "settings": {
            "auto_deploy": false,
            "protected_environment": false,
            "server_compile": false,
        },
        "halted": false,
        "is_marked_for_deletion": false,
        "description": "",
        "icon": "",
    })
}

/// Returns an environment with some members replaced.
fn with(environment: &Value, members: Value) -> Value {
    let mut environment = environment.clone();
    environment.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    environment
}

/// Returns an environment in the form of version 1.
fn in_v1(environment: &Value) -> Value {
    let mut environment = environment.clone();
    let project = environment.as_object_mut().unwrap().remove("project_id").unwrap();
    with(&environment, json!({ "project": project }))
}

fn projects_are_added_renamed_and_deleted(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    let lab = json!({ "id": PROJECT, "name": "lab", "environments": [] });
    let added = root.send("PUT /project", json!({ "name": "lab", "project_id": PROJECT }));
    assert_eq!(data(&added), lab);
    let annex = v1(&root.send("PUT /api/v1/project", json!({ "name": "annex" })))["project"].take();
    assert_eq!((&annex["name"], &annex["environments"]), (&json!("annex"), &json!([])));
    for call in ["PUT /project", "PUT /api/v1/project"] {
        let again = root.send(call, json!({ "name": "lab" }));
        refused(&again, 409, "A project with name lab already exists.");
    }
    let again = root.send("PUT /project", json!({ "name": "new", "project_id": PROJECT }));
    refused(&again, 409, &format!("A project with id {PROJECT} already exists."));
    assert_eq!(data(&root.ask("GET /project")), json!([annex, lab]), "by name");
    assert_eq!(v1(&root.ask("GET /api/v1/project")), json!({ "projects": [annex, lab] }));
    assert_eq!(data(&root.ask(&format!("GET /project/{PROJECT}"))), lab);
    let renamed = json!({ "id": PROJECT, "name": "hall", "environments": [] });
    let by_v1 = root.send(&format!("POST /api/v1/project/{PROJECT}"), json!({ "name": "hall" }));
    assert_eq!(v1(&by_v1), json!({ "project": renamed }));
    let taken = root.send(&format!("POST /project/{PROJECT}"), json!({ "name": "annex" }));
    refused(&taken, 409, "A project with name annex already exists.");
    for version in ["/api/v1", ""] {
        for call in ["GET", "DELETE"] {
            let unknown = root.ask(&format!("{call} {version}/project/{OTHER}"));
            refused(&unknown, 404, NO_SUCH_PROJECT);
        }
        let unknown = format!("POST {version}/project/{OTHER}");
        refused(&root.send(&unknown, json!({ "name": "x" })), 404, NO_SUCH_PROJECT);
    }
    let new = json!({ "name": "prod", "project_id": PROJECT, "environment_id": ENVIRONMENT });
    let prod = data(&root.send("PUT /environment", new));
    let held = format!(
        "Cannot remove the project `{PROJECT}` because it still contains some environments: \
         ('prod', '{ENVIRONMENT}')"
    );
    for version in ["/api/v1", ""] {
        refused(&root.ask(&format!("DELETE {version}/project/{PROJECT}")), 409, &held);
    }
    let full = json!({ "id": PROJECT, "name": "hall", "environments": [prod] });
    assert_eq!(data(&root.ask(&format!("GET /project/{PROJECT}"))), full);
    let ids = json!({ "id": PROJECT, "name": "hall", "environments": [ENVIRONMENT] });
    let by_v1 = root.ask(&format!("GET /api/v1/project/{PROJECT}"));
    assert_eq!(v1(&by_v1), json!({ "project": ids }));
    assert_done(&root.ask(&format!("DELETE /environment/{ENVIRONMENT}")));
    assert_done(&root.ask(&format!("DELETE /api/v1/project/{PROJECT}")));
    assert_eq!(data(&root.ask("GET /project")), json!([annex]));
}

fn environments_are_added_changed_and_deleted(protocol: Protocol) {
    let sandbox = Sandbox::over(protocol);
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    data(&root.send("PUT /project", json!({ "name": "lab", "project_id": PROJECT })));
    let new = json!({ "name": "prod", "project_id": PROJECT, "environment_id": ENVIRONMENT });
    let prod = environment(ENVIRONMENT, "prod", PROJECT);
    let added = root.send("PUT /api/v1/environment", new);
    assert_eq!(v1(&added), json!({ "environment": in_v1(&prod) }));
    let icon = "image/png;base64,aaaa";
    let new = json!({ "name": "dev", "project_id": PROJECT, "environment_id": OTHER,
        "repository": " git ", "branch": "main", "description": "d", "icon": icon });
    let dev = with(
        &environment(OTHER, "dev", PROJECT),
        json!({ "repo_url": "git", "repo_branch": "main", "description": "d", "icon": icon }),
    );
    assert_eq!(data(&root.send("PUT /environment", new)), dev);
    let brief = with(&dev, json!({ "description": "", "icon": "" }));
    assert_eq!(data(&root.ask("GET /environment")), json!([brief, prod]));
    for details in ["true", "True", "1"] {
        let all = root.ask(&format!("GET /environment?details={details}"));
        assert_eq!(data(&all), json!([dev, prod]));
    }
    assert_eq!(root.ask("GET /environment?details=maybe").status, 400);
    let all = json!({ "environments": [in_v1(&brief), in_v1(&prod)] });
    assert_eq!(v1(&root.ask("GET /api/v1/environment")), all);
    assert_eq!(root.ask("GET /api/v1/environment?details=true").status, 400);
    assert_eq!(data(&root.ask(&format!("GET /environment/{OTHER}"))), brief);
    assert_eq!(data(&root.ask(&format!("GET /environment/{OTHER}?details=true"))), dev);
    assert_eq!(root.ask(&format!("GET /api/v1/environment/{OTHER}")).status, 405);
    let of_project = &data(&root.ask("GET /project?environment_details=true"))[0]["environments"];
    assert_eq!(*of_project, json!([dev, prod]));

    let taken = format!("Project with id={PROJECT} already has an environment with name dev");
    for (call, new, status, text) in [
        ("PUT /environment", json!({ "name": "dev", "project_id": PROJECT }), 400, &*taken),
        ("PUT /api/v1/environment", json!({ "name": "dev", "project_id": PROJECT }), 400, &taken),
        (
            "PUT /environment",
            json!({ "name": "dev", "project_id": OTHER }),
            404,
            "The project id for the environment does not exist.",
        ),
        (
            "PUT /environment",
            json!({ "name": "x", "project_id": PROJECT, "repository": "git" }),
            400,
            "Repository and branch should be set together.",
        ),
        (
            "PUT /environment",
            json!({ "name": "x", "project_id": PROJECT, "icon": "image/gif;base64,aaaa" }),
            400,
            "The value supplied for the icon parameter is invalid",
        ),
        (
            "PUT /environment",
            json!({ "name": "x", "project_id": PROJECT, "icon": "image/png;base64,a" }),
            400,
            "The icon is not a valid base64 encoded string",
        ),
        (
            "PUT /environment",
            json!({ "name": "x", "project_id": PROJECT, "description": "d".repeat(256) }),
            400,
            "Maximum size of the icon data url or the description exceeded",
        ),
        (
            "PUT /environment",
            json!({ "name": "x", "project_id": PROJECT, "environment_id": OTHER }),
            409,
            &format!(
                "The id {OTHER} is that of another environment, or was that of a deleted one."
            ),
        ),
        (&format!("POST /environment/{ENVIRONMENT}"), json!({ "name": "dev" }), 400, &taken),
        (
            &format!("POST /environment/{ENVIRONMENT}"),
            json!({ "name": "prod", "project_id": OTHER }),
            400,
            &format!("Project with id={OTHER} doesn't exist"),
        ),
        (
            &format!("POST /api/v1/environment/{PROJECT}"),
            json!({ "name": "x" }),
            404,
            "The environment id does not exist.",
        ),
    ] {
        refused(&root.send(call, new), status, text);
    }
    let change = json!({ "name": "live", "branch": "b" });
    let by_v1 = root.send(&format!("POST /api/v1/environment/{OTHER}"), change);
    let live = with(&dev, json!({ "name": "live", "repo_branch": "b" }));
    assert_eq!(v1(&by_v1), json!({ "environment": in_v1(&live) }));
    data(&root.send("PUT /project", json!({ "name": "annex", "project_id": OTHER })));
    let change = json!({ "name": "live", "project_id": OTHER, "icon": "", "description": "e" });
    let moved = with(&live, json!({ "project_id": OTHER, "icon": "", "description": "e" }));
    assert_eq!(data(&root.send(&format!("POST /environment/{OTHER}"), change)), moved);

    assert_done(&root.ask(&format!("DELETE /api/v1/environment/{ENVIRONMENT}")));
    for version in ["/api/v1", ""] {
        let again = root.ask(&format!("DELETE {version}/environment/{ENVIRONMENT}"));
        refused(&again, 404, "The environment with given id does not exist.");
    }
    let gone = root.ask(&format!("GET /environment/{ENVIRONMENT}"));
    refused(&gone, 404, "The environment id does not exist.");
    let reused = json!({ "name": "new", "project_id": OTHER, "environment_id": ENVIRONMENT });
    assert_eq!(root.send("PUT /environment", reused).status, 409, "its old tokens are about it");
}

#[test]
fn environment_needs_a_project() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    for version in ["/api/v1", ""] {
        let new = json!({ "name": "prod", "environment_id": ENVIRONMENT });
        let answer = Api::root(&server).send(&format!("PUT {version}/environment"), new);
        refused(&answer, 400, "Field 'project_id' is required.");
    }
}

#[test]
fn environment_token_cannot_add_another_environment() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    let claims = fixture::claims(json!({ "urn:inmanta:env": ENVIRONMENT }));
    let scoped = Api::bearing(&server, &fixture::token(&claims));
    let elsewhere = "The authorization token is not valid for the requested environment.";
    let new = json!({ "name": "new", "project_id": TEST_PROJECT });
    for id in [json!({}), json!({ "environment_id": OTHER })] {
        let call = scoped.send("PUT /api/v1/environment", with(&new, id));
        refused(&call, 403, elsewhere);
    }
    let own = with(&new, json!({ "environment_id": ENVIRONMENT.to_uppercase() }));
    assert_eq!(scoped.send("PUT /api/v1/environment", own).status, 409, "its id is in use");
    let scoped_text = "The authorization token is scoped to a specific environment.";
    refused(&scoped.send("PUT /environment", new), 403, scoped_text);
    refused(&scoped.ask("GET /project"), 403, scoped_text);
    let rename = scoped.send(&format!("POST /environment/{OTHER}"), json!({ "name": "x" }));
    refused(&rename, 403, elsewhere);
    let rename = scoped.send(&format!("POST /environment/{ENVIRONMENT}"), json!({ "name": "x" }));
    assert_eq!(data(&rename)["name"], "x");
}

#[test]
fn settings_of_an_environment_are_listed() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    root.add_environment(ENVIRONMENT);
    let listed = data(&root.within(ENVIRONMENT).ask("GET /environment_settings"));
    let expected = environment(ENVIRONMENT, "", NO_PROJECT)["settings"].take();
    assert_eq!(listed["settings"], expected);
    let definition = &listed["definition"]["server_compile"];
    assert_eq!((&definition["type"], &definition["default"]), (&json!("bool"), &json!(false)));
    let by_v1 = v1(&root.within(ENVIRONMENT).ask("GET /api/v1/environment_settings"));
    assert_eq!(by_v1["metadata"], listed["definition"]);
    assert_eq!(root.within(OTHER).ask("GET /environment_settings").status, 404);
    let claims = json!({ "urn:inmanta:ct": "agent", "urn:inmanta:env": ENVIRONMENT });
    let agent = Api::bearing(&server, &fixture::token(&fixture::claims(claims)));
    assert_eq!(agent.within(ENVIRONMENT).ask("GET /environment_settings").status, 200);
}

#[test]
fn changes_of_projects_and_environments_are_audited() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve(&configuration(""));
    let root = Api::root(&server);
    data(&root.send("PUT /project", json!({ "name": "lab", "project_id": PROJECT })));
    data(&root.send(&format!("POST /project/{PROJECT}"), json!({ "name": "hall" })));
    let new = json!({ "name": "prod", "project_id": PROJECT, "environment_id": ENVIRONMENT });
    data(&root.send("PUT /environment", new));
    data(&root.send(&format!("POST /environment/{ENVIRONMENT}"), json!({ "name": "live" })));
    assert_done(&root.ask(&format!("DELETE /environment/{ENVIRONMENT}")));
    assert_done(&root.ask(&format!("DELETE /project/{PROJECT}")));
    let events = crate::audit::audit(&sandbox, &[]);
    let shown = events.iter().map(|event| {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        (text("operation"), event["target"].clone(), text("detail"))
    });
    let (project, environment) = (json!({ "project": PROJECT }), ENVIRONMENT);
    let both = json!({ "project": PROJECT, "environment": environment });
    let expected = [
        ("project.add", project.clone(), "lab"),
        ("project.modify", project.clone(), "hall"),
        ("environment.add", both, "prod"),
        ("environment.modify", json!({ "environment": environment }), "live"),
        ("environment.delete", json!({ "environment": environment }), ""),
        ("project.delete", project, ""),
    ];
    let expected = expected
        .map(|(operation, target, detail)| (operation.to_owned(), target, detail.to_owned()));
    assert_eq!(shown.collect::<Vec<_>>(), expected);
}
