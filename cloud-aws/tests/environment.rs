//! That EC2, metadata, region and credentials are found where the SDK's own variables say. A process cannot safely change its
//! own environment, so this program starts itself again for each case.

mod support;

use std::{
    env,
    process::{ExitCode, Stdio},
};

use cloud::{Answer, Call, Cloud};
use cloud_aws::{Ec2, Metadata, Settings};
use support::{Request, Server, answer, metadata};

const CHILD: &str = "BERTH_TEST_CHILD";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    if env::var_os(CHILD).is_some() {
        println!("{}", child().await);
        return ExitCode::SUCCESS;
    }
    for (name, case) in [
        ("the endpoint of EC2 and the region are the SDK's variables", CaseOf::Variables),
        ("without variables the region is metadata's and the credentials are the instance's", CaseOf::Instance),
    ] {
        run(case).await;
        println!("test {name} ... ok");
    }
    ExitCode::SUCCESS
}

/// What `ipamd` does at its start: who am I, and what do I have?
async fn child() -> String {
    let facts = match Metadata::new().facts().await {
        Ok(facts) => facts,
        Err(error) => return format!("{error:?}"),
    };
    let ec2 = Ec2::new(&Settings::new(facts.region)).await;
    match ec2.call(Call::Discover { instance: facts.instance }).await {
        Ok(Answer::Discovered(enis)) => format!("{} ENIs", enis.len()),
        other => format!("{other:?}"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CaseOf {
    Variables,
    Instance,
}

async fn run(case: CaseOf) {
    let ec2 = Server::start(|request: &Request| answer(request.action(), "<networkInterfaceSet/>")).await;
    let mut paths = metadata::paths();
    paths.insert("iam/security-credentials/", "node-role");
    paths.insert(
        "iam/security-credentials/node-role",
        r#"{"Code":"Success","LastUpdated":"2026-01-01T00:00:00Z","Type":"AWS-HMAC","AccessKeyId":"ASIAOFTHEROLE",
            "SecretAccessKey":"secret","Token":"session","Expiration":"2099-01-01T00:00:00Z"}"#,
    );
    let imds = Server::start(move |request| metadata::reply(&paths, request)).await;

    let mut child = tokio::process::Command::new(env::current_exe().expect("this program has a path"));
    child.env_clear().env(CHILD, "1").env("HOME", "/nonexistent").stdin(Stdio::null());
    child.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", imds.url()).env("AWS_ENDPOINT_URL_EC2", ec2.url());
    if case == CaseOf::Variables {
        child
            .env("AWS_REGION", "ap-south-2")
            .env("AWS_ACCESS_KEY_ID", "AKIDOFVARIABLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret");
    }
    let output = child.output().await.expect("the child starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("0 ENIs"), "{said}");

    let request = ec2.only_request();
    let scope = match case {
        CaseOf::Variables => ["Credential=AKIDOFVARIABLE/", "/ap-south-2/ec2/"],
        CaseOf::Instance => ["Credential=ASIAOFTHEROLE/", "/eu-central-1/ec2/"],
    };
    let signed = request.headers.get("authorization").cloned().unwrap_or_default();
    assert!(scope.iter().all(|part| signed.contains(part)), "{signed} has not {scope:?}");
    assert_eq!(request.field("Filter.1.Value.1"), "i-0123");
}
