use countersign_engine::Algorithm;
use countersign_tests::{binary::Sandbox, http::Connection};

fn read(sandbox: &Sandbox, name: &str) -> String {
    std::fs::read_to_string(sandbox.path().join(name)).unwrap()
}

#[test]
fn corpus_is_deterministic() {
    let sandbox = Sandbox::new();
    for algorithm in Algorithm::ALL {
        for directory in ["one", "two"] {
            let arguments = [
                "corpus",
                "--alg",
                algorithm.name(),
                "--count",
                "7",
                "--valid",
                "0.5",
                "--out",
                directory,
            ];
            assert_eq!(sandbox.run(arguments).code(), 0);
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
        let arguments = [
            "corpus",
            "--alg",
            algorithm.name(),
            "--count",
            "40",
            "--valid",
            "0.6",
            "--out",
            "corpus",
        ];
        assert_eq!(sandbox.run(arguments).code(), 0);
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
    assert_eq!(sandbox.run(["corpus", "--alg", "HS512", "--count", "3", "--out", "c"]).code(), 0);
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
        let output = sandbox.run(["corpus", "--count", "1", "--out", "c"].iter().chain(&arguments));
        assert!(output.code() == 2 && output.stderr.contains(expected), "{output:?}");
    }
    let output =
        sandbox.run(["corpus", "--alg", "HS256", "--count", "1", "--out", "/proc/nowhere"]);
    assert!(output.code() == 1 && output.stderr.contains("/proc/nowhere"), "{output:?}");
}
