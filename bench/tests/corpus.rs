//! The program `corpus`: its tokens, and the server configuration for them.

use std::process::{Command, Output};

use countersign_engine::Algorithm;
use countersign_tests::{binary::Sandbox, http::Connection};

/// Runs `corpus` in the directory of the sandbox.
fn run<'a>(sandbox: &Sandbox, arguments: impl IntoIterator<Item = &'a str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corpus"));
    command.args(arguments).current_dir(sandbox.path()).output().unwrap()
}

fn read(sandbox: &Sandbox, name: &str) -> String {
    std::fs::read_to_string(sandbox.path().join(name)).unwrap()
}

#[test]
fn corpus_is_deterministic() {
    let sandbox = Sandbox::new();
    for algorithm in Algorithm::ALL {
        for directory in ["one", "two"] {
            let arguments =
                ["--alg", algorithm.name(), "--count", "7", "--valid", "0.5", "--out", directory];
            assert!(run(&sandbox, arguments).status.success());
        }
        for file in ["tokens.txt", "expected.txt", "jwks.json"] {
            let (one, two) =
                (read(&sandbox, &format!("one/{file}")), read(&sandbox, &format!("two/{file}")));
            assert!(!one.is_empty() && one == two, "{algorithm} {file}");
        }
    }
}

#[test]
fn corpus_server_answers_as_expected() {
    for algorithm in Algorithm::ALL {
        let sandbox = Sandbox::new();
        let arguments =
            ["--alg", algorithm.name(), "--count", "40", "--valid", "0.6", "--out", "corpus"];
        assert!(run(&sandbox, arguments).status.success());
        let server = sandbox.serve(&read(&sandbox, "corpus/countersign.cfg"));
        let (tokens, expected) =
            (read(&sandbox, "corpus/tokens.txt"), read(&sandbox, "corpus/expected.txt"));
        assert_eq!(
            (tokens.lines().count(), expected.lines().filter(|line| *line == "200").count()),
            (40, 24)
        );
        let mut connection = Connection::open(server.address);
        for (token, status) in tokens.lines().zip(expected.lines()) {
            connection
                .send(&format!("GET /auth HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"), b"");
            assert_eq!(connection.receive(false).status.to_string(), status, "{algorithm} {token}");
        }
    }
}

#[test]
fn corpus_files_fit_jws_verify_and_config_check() {
    let sandbox = Sandbox::new();
    assert!(run(&sandbox, ["--alg", "HS512", "--count", "3", "--out", "c"]).status.success());
    let tokens = read(&sandbox, "c/tokens.txt");
    let answers =
        sandbox.run_with_input(["jws", "verify", "--jwks", "c/jwks.json"], &tokens).json_lines();
    assert!(answers.len() == 3 && answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
    assert!(
        sandbox
            .run(["config", "check", "-c", "c/countersign.cfg"])
            .text()
            .contains("http://127.0.0.1:8888")
    );
}

#[test]
fn corpus_names_wrong_arguments() {
    let sandbox = Sandbox::new();
    for (arguments, expected) in [
        (["--alg", "HS1", "--valid", "1"], "choose one of HS256"),
        (["--alg", "HS256", "--valid", "1.5"], "a number from 0 to 1"),
    ] {
        let output = run(&sandbox, ["--count", "1", "--out", "c"].into_iter().chain(arguments));
        assert!(output.status.code() == Some(2) && names(&output, expected), "{output:?}");
    }
    let output = run(&sandbox, ["--alg", "HS256", "--count", "1", "--out", "/proc/nowhere"]);
    assert!(output.status.code() == Some(1) && names(&output, "/proc/nowhere"), "{output:?}");
}

/// Whether the text is in standard error.
fn names(output: &Output, text: &str) -> bool {
    String::from_utf8_lossy(&output.stderr).contains(text)
}
