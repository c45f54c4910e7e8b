//! Answers that are whole and make no sense: fields that are missing, values that nobody knows, numbers and addresses that cannot
//! be, things that are there twice.

use cloud::{Error, Kind};

use crate::{
    client, recorded,
    support::{
        Server, answer,
        sites::{Brought, Errand, Site},
    },
};

async fn brought(errand: Errand, fields: String) -> Result<Brought, Error> {
    let server = Server::start(move |request| answer(request.action(), &fields)).await;
    let outcome = errand.run(&client(server.url()).await).await;
    server.only_request();
    outcome
}

/// The recorded answer with `from` replaced by `to` is no answer, for a reason that has these words.
async fn no_answer(site: Site, from: &str, to: &str, words: &[&str]) {
    let recorded = recorded::fields(site);
    assert!(recorded.contains(from), "{site:?}: no {from} in {recorded}");
    let error = brought(site.sample(), recorded.replace(from, to)).await.expect_err(to);
    assert_eq!((error.kind, error.code.as_str()), (Kind::Uncertain, ""), "{site:?}: {error}");
    for word in words.iter().chain([&site.sample().action().name()]) {
        assert!(error.to_string().contains(word), "{site:?}: {error} does not say {word}");
    }
}

/// The elements of an answer, by name, each once: with what is in them, the first of each name.
fn elements(fields: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (at, _) in fields.match_indices('<') {
        let rest = &fields[at + 1..];
        let Some(end) = rest.find('>').filter(|_| !rest.starts_with('/')) else { continue };
        let name = rest[..end].to_owned();
        let whole = if name.ends_with('/') { format!("<{name}>") } else { closed(&fields[at..], &name) };
        if !found.iter().any(|(known, _)| *known == name) {
            found.push((name, whole));
        }
    }
    found
}

/// The element at the beginning, up to its own end.
fn closed(text: &str, name: &str) -> String {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut end = 0;
    loop {
        end += text[end..].find(&close).expect("recordings are well formed") + close.len();
        if text[..end].matches(&open).count() == text[..end].matches(&close).count() {
            return text[..end].to_owned();
        }
    }
}

/// Elements without which the answer is none.
fn needed(site: Site) -> &'static [&'static str] {
    const ENI: &[&str] = &[
        "networkInterfaceSet",
        "networkInterfaceId",
        "subnetId",
        "macAddress",
        "privateIpAddress",
        "attachmentId",
        "deviceIndex",
        "status",
        "ipv4Prefix",
    ];
    match site {
        Site::CreateEni => &[
            "networkInterface",
            "networkInterfaceId",
            "subnetId",
            "macAddress",
            "privateIpAddress",
            "attachmentId",
            "deviceIndex",
            "status",
            "ipv4Prefix",
        ],
        Site::Describe | Site::Discover => ENI,
        Site::Attach => &["attachmentId"],
        Site::Assign => &["assignedPrivateIpAddressesSet", "privateIpAddress"],
        Site::Subnets => &["subnetSet", "subnetId", "availableIpAddressCount"],
        Site::Instances => &["reservationSet", "instanceId"],
        Site::Limits => &[
            "item",
            "instanceTypeSet",
            "instanceType",
            "networkInfo",
            "networkCardIndex",
            "maximumNetworkInterfaces",
            "ipv4AddressesPerInterface",
        ],
        // Of what nodes left behind, what makes no sense is left out.
        Site::Leaked => &["networkInterfaceSet"],
        Site::Protect | Site::SetGroups | Site::Unassign | Site::Tag | Site::Detach | Site::Delete => &[],
    }
}

#[tokio::test]
async fn each_needed_field_is_missed_by_name_and_no_other() {
    for site in Site::ALL {
        let recorded = recorded::fields(*site);
        for (name, whole) in elements(&recorded) {
            // Every one of that name: an ENI's status is not its attachment's, but both go.
            let without = if name == "item" { recorded.replacen(&whole, "", 1) } else { strip(&recorded, &name) };
            let outcome = brought(site.sample(), without).await;
            let wanted = needed(*site).contains(&name.as_str());
            match outcome {
                Err(error) => {
                    assert!(wanted, "{site:?} without {name}: {error}");
                    assert_eq!(error.kind, Kind::Uncertain, "{error}");
                    let said = match name.as_str() {
                        "instanceType" | "instanceTypeSet" => "item",
                        "networkCardIndex" => "networkCards",
                        name => name,
                    };
                    assert!(error.message.contains(said), "{site:?} without {name}: {error}");
                }
                Ok(brought) => assert!(!wanted, "{site:?} without {name}: {brought:?}"),
            }
        }
    }
}

/// The answer without any element of that name.
fn strip(fields: &str, name: &str) -> String {
    if name.ends_with('/') {
        return fields.replace(&format!("<{name}>"), "");
    }
    let mut rest = fields.to_owned();
    while let Some(at) = rest.find(&format!("<{name}>")) {
        let whole = closed(&rest[at..], name);
        rest.replace_range(at..at + whole.len(), "");
    }
    rest.replace(&format!("<{name}/>"), "")
}

#[tokio::test]
async fn values_that_nobody_knows_are_no_end_and_no_promise() {
    let discovered = brought(
        Site::Discover.sample(),
        recorded::fields(Site::Discover)
            .replace("<status>attached<", "<status>quiescing<")
            .replace("<status>in-use<", "<status>resting<")
            .replace("<interfaceType>interface<", "<interfaceType>quantum<"),
    )
    .await;
    let Ok(Brought::Answer(cloud::Answer::Discovered(enis))) = &discovered else { panic!("{discovered:?}") };
    // It holds a device index and takes no pods.
    assert_eq!(enis[0].kind, pool::InterfaceKind::Other);
    assert!(enis[0].attachment.as_ref().is_some_and(|attachment| attachment.attached), "{enis:?}");
    let running = recorded::fields(Site::Instances).replace("<name>running<", "<name>dreaming<");
    let there = brought(Site::Instances.sample(), running).await;
    assert_eq!(there, Ok(Brought::Answer(cloud::Answer::Instances(vec!["i-2".into()]))));
}

#[tokio::test]
async fn numbers_out_of_range_are_named() {
    for (site, element, field) in [
        (Site::Discover, "<deviceIndex>2<", "deviceIndex"),
        (Site::Discover, "<networkCardIndex>0<", "networkCardIndex"),
        (Site::Subnets, "<availableIpAddressCount>251<", "availableIpAddressCount"),
        (Site::Limits, "<ipv4AddressesPerInterface>10<", "ipv4AddressesPerInterface"),
        (Site::Limits, "<maximumNetworkInterfaces>3<", "maximumNetworkInterfaces"),
    ] {
        no_answer(site, element, &format!("<{field}>-1<"), &[field, "-1"]).await;
        for beyond in ["2147483648", "99999999999999999999", "two", "1.5"] {
            // The SDK reads numbers before anybody else does.
            no_answer(site, element, &format!("<{field}>{beyond}<"), &["integer"]).await;
        }
    }
    for (element, field) in [
        ("<ipv4AddressesPerInterface>10<", "ipv4AddressesPerInterface"),
        ("<maximumNetworkInterfaces>3<", "maximumNetworkInterfaces"),
    ] {
        no_answer(Site::Limits, element, &format!("<{field}>0<"), &[field, "\"0\""]).await;
    }
}

/// None of them is an address of a machine in a VPC.
const NO_ADDRESSES: &[&str] = &[
    "10.0.0.300",
    "10.0.0",
    "10.0.0.20/32",
    "2001:db8::1",
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "169.254.169.254",
    "224.0.0.1",
    "255.255.255.255",
    "&lt;b&gt;",
];

#[tokio::test]
async fn addresses_that_cannot_be_are_named() {
    for absurd in NO_ADDRESSES {
        let shown = absurd.replace("&lt;", "<").replace("&gt;", ">");
        for (site, address) in [
            (Site::Assign, "10.0.0.20"),
            (Site::Discover, "10.0.0.13"),
            (Site::Describe, "10.0.0.12"),
            (Site::CreateEni, "10.0.0.14"),
        ] {
            no_answer(site, &format!(">{address}<"), &format!(">{absurd}<"), &[&shown]).await;
        }
    }
}

#[tokio::test]
async fn prefixes_that_cannot_be_are_named() {
    let addresses = recorded::fields(Site::Assign);
    for absurd in
        ["10.0.0.33/28", "10.0.0.32/27", "10.0.0.32/99", "10.0.0.32", "2001:db8::/80", "127.0.0.0/28", "224.0.0.16/28"]
    {
        no_answer(Site::Discover, ">10.0.0.32/28<", &format!(">{absurd}<"), &["eni-0a", absurd]).await;
        let more = format!(
            "{addresses}<assignedIpv4PrefixSet><item><ipv4Prefix>{absurd}</ipv4Prefix></item></assignedIpv4PrefixSet>"
        );
        let error = brought(Site::Assign.sample(), more).await.expect_err(absurd);
        assert!(error.kind == Kind::Uncertain && error.message.contains(absurd), "{error}");
    }
}

#[tokio::test]
async fn hardware_addresses_that_cannot_be_are_named() {
    for absurd in [
        "02:00:0a:00:00",
        "02:00:0a:00:00:0c:0d",
        "zz:00:0a:00:00:0c",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff",
        "01:00:5e:00:00:01",
    ] {
        for site in [Site::CreateEni, Site::Describe, Site::Discover] {
            no_answer(site, ">02:00:0a:00:00:0c<", &format!(">{absurd}<"), &["macAddress", absurd]).await;
        }
    }
}

#[tokio::test]
async fn what_is_there_twice_is_no_answer() {
    for (site, one, other, field) in [
        (Site::Assign, ">10.0.0.21<", ">10.0.0.20<", "privateIpAddress"),
        (Site::CreateEni, ">10.0.0.14<", ">10.0.0.13<", "privateIpAddress"),
        (Site::Discover, ">10.0.0.14<", ">10.0.0.13<", "privateIpAddress"),
        (Site::Describe, ">10.0.0.64/28<", ">10.0.0.32/28<", "ipv4Prefix"),
    ] {
        no_answer(site, one, other, &[field, other.trim_matches(['<', '>']), "twice"]).await;
    }
}

#[tokio::test]
async fn an_enis_own_address_is_never_one_for_pods() {
    for unmarked in ["<primary>false</primary>", ""] {
        let fields = recorded::fields(Site::Describe).replace("<primary>true</primary>", unmarked);
        let described = brought(Site::Describe.sample(), fields).await;
        let Ok(Brought::Answer(cloud::Answer::Described(Some(eni)))) = &described else { panic!("{described:?}") };
        assert_eq!(eni.secondary, crate::calls::eni().secondary);
    }
}

#[tokio::test]
async fn what_is_on_two_pages_is_there_once_as_the_later_has_it() {
    for site in Site::ALL.iter().filter(|site| site.has_pages()) {
        let (first, second) = (recorded::fields(*site), recorded::fields(*site));
        let second = second.replace("<deviceIndex>2<", "<deviceIndex>3<").replace("Count>251<", "Count>250<");
        let server = Server::start(move |request| match request.field("NextToken") {
            "" => answer(request.action(), &format!("{first}<nextToken>two</nextToken>")),
            _ => answer(request.action(), &second),
        })
        .await;
        let ec2 = client(server.url()).await;
        let outcome = site.sample().run(&ec2).await;
        match outcome {
            Ok(Brought::Answer(cloud::Answer::Discovered(enis) | cloud::Answer::Leaked(enis))) => {
                let devices: Vec<_> = enis.iter().filter_map(|eni| Some(eni.attachment.as_ref()?.device.0)).collect();
                assert_eq!(devices, [3], "{site:?}");
            }
            Ok(Brought::Answer(cloud::Answer::Subnets(subnets))) => {
                assert_eq!(subnets.iter().map(|subnet| subnet.free).collect::<Vec<_>>(), [250]);
            }
            Ok(Brought::Answer(cloud::Answer::Instances(instances))) => assert_eq!(instances, ["i-2".into()]),
            other => panic!("{site:?}: {other:?}"),
        }
        assert_eq!(server.seen().len(), 2, "{site:?}");
    }
}
