//! Connections that are reset, refused, or lead elsewhere by now: what surely did not happen and what may have.

use std::time::{Duration, Instant};

use cloud::Kind;

use crate::{
    client, recorded,
    support::{Reply, Server, answer, document, head, sites::Site},
};

#[tokio::test]
async fn a_connection_that_is_reset_is_uncertain_wherever_the_answer_was() {
    for site in Site::ALL {
        let body = recorded::answer(*site);
        let whole = [head(200, body.len()).into_bytes(), body.into_bytes()].concat();
        let headed = whole.len() - recorded::answer(*site).len();
        // Before the head, in it, right after it, in the body, before its last byte.
        for length in [0, 1, headed / 2, headed, headed + 7, whole.len() - 1] {
            let part = whole[..length].to_vec();
            let server = Server::start(move |_| Reply::Reset(part.clone())).await;
            let error = site.sample().run(&client(server.url()).await).await.expect_err("a reset");
            assert_eq!((error.kind, error.code.as_str()), (Kind::Uncertain, ""), "{site:?}, {length}: {error}");
            assert!(error.message.contains(&server.url()), "{error} does not say who");
            server.only_request();
        }
    }
}

#[tokio::test]
async fn what_is_no_http_at_all_is_uncertain() {
    for noise in
        ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 two hundred\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: -7\r\n\r\n"]
    {
        let server = Server::start(move |_| Reply::Raw(noise.as_bytes().to_vec())).await;
        let error = Site::Assign.sample().run(&client(server.url()).await).await.expect_err("noise");
        assert_eq!(error.kind, Kind::Uncertain, "{error}");
        server.only_request();
    }
}

/// A server that answers every request as recorded.
fn faithful(request: &crate::support::Request) -> Reply {
    answer(request.action(), "<return>true</return>")
}

#[tokio::test]
async fn an_endpoint_that_goes_away_and_comes_back_is_reached_by_a_new_connection() {
    let ec2_of = Server::start(faithful).await;
    let ec2 = client(ec2_of.url()).await;
    let delete = || Site::Delete.sample().run(&ec2);
    assert!(delete().await.is_ok());
    let address = ec2_of.end().await;
    for site in Site::ALL {
        let error = site.sample().run(&ec2).await.expect_err("nobody there");
        assert_eq!(error.kind, Kind::Unreachable, "{site:?}: {error}");
        assert!(error.message.contains(&address.to_string()) && error.message.contains("refused"), "{error}");
    }
    let back = Server::at(address, faithful).await;
    assert!(delete().await.is_ok());
    back.only_request();
}

#[tokio::test]
async fn a_name_is_looked_up_for_every_new_connection() {
    // Of the addresses of localhost only one is left after the move.
    let first = Server::start(faithful).await;
    let port = first.url().rsplit(':').next().expect("a port").to_owned();
    let ec2 = client(format!("http://localhost:{port}")).await;
    assert!(Site::Delete.sample().run(&ec2).await.is_ok());
    let address = first.end().await;
    let error = Site::Delete.sample().run(&ec2).await.expect_err("nobody there");
    assert_eq!(error.kind, Kind::Unreachable, "{error}");
    let second = Server::at(address, faithful).await;
    assert!(Site::Delete.sample().run(&ec2).await.is_ok());
    second.only_request();
}

#[tokio::test]
async fn a_connection_that_the_far_side_closes_after_an_answer_costs_no_call() {
    let server = Server::start(|request| {
        let Reply::Say(status, body) = faithful(request) else { unreachable!("it says something") };
        let told = head(status, body.len()).replace("content-type", "connection: close\r\ncontent-type");
        Reply::Raw([told.into_bytes(), body.into_bytes()].concat())
    })
    .await;
    let ec2 = client(server.url()).await;
    for _ in 0..20 {
        assert_eq!(Site::Delete.sample().run(&ec2).await.map_err(|error| error.to_string()).err(), None);
    }
    assert_eq!(server.seen().len(), 20, "one request each");
}

#[tokio::test]
async fn all_pages_of_a_read_have_the_time_of_one_call() {
    // Of two seconds the first page takes more than one.
    for site in Site::ALL.iter().filter(|site| site.has_pages()) {
        let fields = recorded::fields(*site);
        let server = Server::start(move |request| match request.field("NextToken") {
            "" => {
                let page = format!("{fields}<nextToken>two</nextToken>");
                Reply::Late(Duration::from_millis(1200), document(request.action(), &page))
            }
            _ => Reply::Hang,
        })
        .await;
        let ec2 = client(server.url()).await;
        let begun = Instant::now();
        let error = site.sample().run(&ec2).await.expect_err("no second page");
        assert_eq!((error.kind, error.code.as_str()), (Kind::Uncertain, ""), "{site:?}: {error}");
        let took = begun.elapsed();
        assert!((Duration::from_millis(1900)..Duration::from_millis(2900)).contains(&took), "{site:?}: {took:?}");
        assert_eq!(server.seen().len(), 2);
    }
}
