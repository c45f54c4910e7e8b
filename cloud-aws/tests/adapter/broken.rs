//! Answers that are none, at every call site: cut off, of another action, of somebody else, without end. Each is uncertain, and
//! nothing is asked twice for it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cloud::{Error, Kind};

use crate::{
    client, recorded,
    support::{
        Reply, Server, document, head, refusal_document,
        sites::{Brought, Errand, Site},
    },
};

/// What comes of one request that is answered with this.
async fn outcome(errand: Errand, reply: impl Fn() -> Reply + Send + Sync + 'static) -> Result<Brought, Error> {
    let server = Server::start(move |_| reply()).await;
    let outcome = errand.run(&client(server.url()).await).await;
    server.only_request();
    outcome
}

fn uncertain(outcome: Result<Brought, Error>, site: Site, what: &str) -> Error {
    let error = outcome.expect_err(what);
    assert_eq!((error.kind, error.code.as_str()), (Kind::Uncertain, ""), "{site:?}, {what}: {error}");
    assert!(error.to_string().starts_with(site.sample().action().name()), "{error}");
    error
}

/// A server that says the beginning of this, a byte more each time.
async fn ever_longer(status: u16, whole: String) -> Server {
    let length = AtomicUsize::new(0);
    Server::start(move |_| Reply::Say(status, whole[..length.fetch_add(1, Ordering::Relaxed)].to_owned())).await
}

#[tokio::test]
async fn every_recorded_answer_is_understood() {
    for site in Site::ALL {
        let whole = recorded::answer(*site);
        let brought = outcome(site.sample(), move || Reply::Say(200, whole.clone())).await;
        assert!(brought.is_ok(), "{site:?}: {brought:?}");
        assert_eq!(Site::of(&site.sample()), *site);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_cut_off_at_any_byte_is_uncertain_and_never_a_shorter_answer() {
    let mut sites = tokio::task::JoinSet::new();
    for site in Site::ALL {
        sites.spawn(async move {
            let whole = recorded::answer(*site);
            let server = ever_longer(200, whole.clone()).await;
            let ec2 = client(server.url()).await;
            for length in 0..whole.len() {
                let error = uncertain(site.sample().run(&ec2).await, *site, &whole[..length]);
                let named = error.message.contains("breaks off") || error.message.contains("is not EC2's");
                assert!(named, "{site:?}, {length} bytes: {error}");
            }
            assert!(site.sample().run(&ec2).await.is_err() == whole.is_empty());
            assert_eq!(server.seen().len(), whole.len() + 1, "one request each");
        });
    }
    sites.join_all().await;
}

#[tokio::test]
async fn a_refusal_that_is_cut_off_at_any_byte_is_never_another_refusal() {
    let whole = refusal_document(
        "InvalidParameterValue",
        "Instance 'i-1' already has an interface attached at device index '1'.",
    );
    for (site, status) in [(Site::Attach, 400), (Site::Attach, 503), (Site::Describe, 400)] {
        let server = ever_longer(status, whole.clone()).await;
        let ec2 = client(server.url()).await;
        for length in 0..whole.len() {
            uncertain(site.sample().run(&ec2).await, site, &whole[..length]);
        }
        let error = site.sample().run(&ec2).await.expect_err("a refusal");
        assert_eq!((error.kind, error.code.as_str()), (Kind::Conflict, "InvalidParameterValue"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_the_connection_cuts_off_is_uncertain() {
    for site in Site::ALL {
        let whole = recorded::answer(*site);
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            let part = whole[..length].to_owned();
            let cut = outcome(site.sample(), move || Reply::Cut(part.clone())).await;
            uncertain(cut, *site, &format!("{length} bytes"));
        }
    }
}

#[tokio::test]
async fn an_answer_to_another_action_is_uncertain_and_shown() {
    for site in Site::ALL {
        for other in ["DescribeVpcs", "DetachNetworkInterface", "AttachNetworkInterface"] {
            if site.sample().action().name() == other {
                continue;
            }
            let wrong = document(other, &recorded::fields(*site));
            let error =
                uncertain(outcome(site.sample(), move || Reply::Say(200, wrong.clone())).await, *site, "wrong action");
            assert!(error.message.contains("is not EC2's") && error.message.contains(other), "{error}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_somebody_else_is_uncertain_and_says_where_to_look() {
    let portal = "<html><body>Welcome to the hotel</body></html>";
    for site in Site::ALL {
        for (status, body) in [
            (200, portal),
            (200, ""),
            (200, "{\"Return\": true}"),
            (200, "<Response><Errors/></Response>"),
            (400, portal),
            (403, "Forbidden"),
            (500, "<html><h1>Internal Server Error</h1></html>"),
            (502, "<html><h1>Bad Gateway</h1></html>"),
            (503, "<html><h1>Service Unavailable</h1></html>"),
            (503, ""),
            (504, "upstream request timeout"),
        ] {
            let said = outcome(site.sample(), move || Reply::Say(status, body.to_owned())).await;
            let error = uncertain(said, *site, body);
            for word in [&status.to_string(), "is not EC2's", "AWS_ENDPOINT_URL_EC2", &format!("{body:?}")] {
                assert!(error.message.contains(word), "{error} does not say {word}");
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_without_a_code_is_uncertain() {
    for body in ["<Response><Errors><Error/></Errors></Response>", "<Response/>"] {
        let said = outcome(Site::Delete.sample(), move || Reply::Say(400, body.to_owned())).await;
        assert!(uncertain(said, Site::Delete, body).message.contains("has no code"));
    }
}

#[tokio::test]
async fn return_false_is_no_yes() {
    for site in Site::ALL.iter().filter(|site| recorded::fields(**site).contains("<return>")) {
        let denied = recorded::answer(*site).replace("<return>true<", "<return>false<");
        let error = uncertain(outcome(site.sample(), move || Reply::Say(200, denied.clone())).await, *site, "false");
        assert!(error.message.contains("return \"false\""), "{error}");
    }
}

#[tokio::test]
async fn a_huge_answer_is_not_read_to_its_end() {
    // Announced as a terabyte; what is sent is as much as is taken.
    let sent = Arc::new(AtomicUsize::new(0));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let count = Arc::clone(&sent);
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        stream.read_exact(&mut [0; 16]).await.expect("the beginning of a request");
        stream.write_all(head(200, 1 << 40).as_bytes()).await.expect("somebody listens");
        let chunk = vec![b' '; 1 << 20];
        while stream.write_all(&chunk).await.is_ok() {
            count.fetch_add(chunk.len(), Ordering::Relaxed);
        }
    });
    let settings = cloud_aws::Settings {
        endpoint: Some(url),
        call_timeout: std::time::Duration::from_secs(60),
        ..cloud_aws::Settings::new("eu-central-1")
    };
    let credentials = aws_credential_types::Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
    let ec2 = cloud_aws::Ec2::with_credentials(&settings, credentials).await;
    let error = uncertain(Site::Discover.sample().run(&ec2).await, Site::Discover, "huge");
    assert!(error.message.contains("limit"), "{error}");
    server.await.expect("the server saw the end of the connection");
    let sent = sent.load(Ordering::Relaxed) >> 20;
    assert!((32..256).contains(&sent), "{sent} MiB");
}
