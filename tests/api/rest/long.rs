//! Lists that are too long for an answer: what a client that pages gets of them
//! in each dialect.

use serde_json::{Value, json};

use super::Client;
use crate::common::{DEMO_KEY, Receiver, Start, TestServer};

const SUBSCRIPTIONS: &str = "/v1/webhooks/subscriptions";

async fn start() -> TestServer {
    Start::default().flag("response_bytes_max", "4096").go().await
}

async fn long_webhooks(server: &TestServer, count: usize) {
    for n in 0..count {
        let url = format!("http://127.0.0.1:9/{n}/{}", "x".repeat(800));
        server.webhook(json!({"topics": "order:*", "url": url, "format": "3dcart"})).await;
    }
}

/// Every row of a list of Babel's, page by page; and how many pages there were.
async fn paged(client: &Client<'_>, path: &str, list: &str, key: &str) -> (Vec<Value>, usize) {
    let (mut keys, mut pages) = (Vec::new(), 0);
    loop {
        let (status, answer) = client.send("GET", &format!("{path}skip={}", keys.len()), "").await;
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
        let rows = answer[list].as_array().unwrap();
        assert!(rows.len() == 1 || answer.to_string().len() < 4_096 + 300, "{answer}");
        keys.extend(rows.iter().map(|row| row[key].clone()));
        pages += 1;
        match answer["message"].as_str().unwrap() {
            "" => return (keys, pages),
            told => assert!(told.ends_with(&format!("go on with skip={}.", keys.len())), "{told}"),
        }
    }
}

#[tokio::test]
async fn babels_lists_say_where_they_go_on() {
    let server = start().await;
    let client = Client::babel(&server, DEMO_KEY);
    long_webhooks(&server, 9).await;
    for query in ["", "sort=-url&", "filter=url+contains+xxx&sort=id&", "include=webhookEvents&"] {
        let (mut ids, pages) = paged(&client, &format!("{SUBSCRIPTIONS}?{query}"), "subscriptions", "id").await;
        if query.contains("-url") {
            ids.reverse();
        }
        assert_eq!((ids, pages > 2), ((1..=9).map(Value::from).collect(), true), "{query}");
    }
    let receiver = Receiver::obliging().await;
    let made = server.webhook(json!({"topics": "product:*", "url": receiver.url()})).await;
    for n in 0..7 {
        // As a text in JSON, each of these is two characters.
        server.publish("product:created", json!({"n": n, "quotes": "\"".repeat(300)})).await;
    }
    server.settled(made["webhook_id"].as_i64().unwrap()).await;
    let events = format!("{SUBSCRIPTIONS}/{}/events", made["webhook_id"]);
    for query in ["", "filter=payload+contains+quotes&"] {
        let (ids, pages) = paged(&client, &format!("{events}?{query}"), "events", "id").await;
        assert_eq!((ids, pages > 2), ((1..=7).map(Value::from).collect(), true), "{query}");
    }
    for n in 0..7 {
        server.call("topic.register", json!([format!("own:t{n}"), {"description": "d".repeat(900)}])).await.unwrap();
    }
    let (names, pages) = paged(&client, "/v1/webhooks/event-types?", "eventTypes", "name").await;
    assert_eq!((names, pages), ((0..7).map(|n| json!(format!("own:t{n}"))).collect(), 2));
}

/// A row is short here, so more of them are needed: as a client goes on behind
/// as many as it asked for, it gets all of these or is told to ask for fewer.
#[tokio::test]
async fn three_d_carts_lists_are_whole_or_refused() {
    let server = start().await;
    long_webhooks(&server, 9).await;
    let client = Client::shop(&server);
    let path = |limit: usize, offset: usize| format!("/3dCartWebAPI/v2/Webhooks?limit={limit}&offset={offset}");
    let (status, answer) = client.send("GET", &path(9, 1), "").await;
    assert_eq!(status, 400, "{answer}");
    let told = "limit: the answer would have more than response_bytes_max, 4096 bytes; ask for fewer at once.";
    assert_eq!(answer[0]["Message"], told);
    let mut ids = Vec::new();
    for page in 0..3 {
        let (_, rows) = client.send("GET", &path(3, 1 + page * 3), "").await;
        ids.extend(rows.as_array().unwrap().iter().map(|row| row["Id"].as_i64().unwrap()));
    }
    assert_eq!(ids, (1..=9).collect::<Vec<_>>());

    let mut headers: Vec<(&str, &str)> = client.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    headers[0].1 = "application/xml";
    let (status, head, xml) = server.exchange("GET", &path(2, 1), &headers, "").await;
    assert_eq!((status, head["content-type"].to_str().unwrap()), (200, "application/xml; charset=utf-8"));
    let begin = "<?xml version=\"1.0\" encoding=\"utf-8\"?><ArrayOfWebhook><Webhook><Id>1</Id>";
    assert!(xml.starts_with(begin) && xml.ends_with("</Enabled></Webhook></ArrayOfWebhook>"), "{xml}");
    let (status, _, xml) = server.exchange("GET", &path(9, 1), &headers, "").await;
    assert_eq!(status, 400);
    assert!(xml.contains("ask for fewer at once"), "{xml}");
}

/// The `order_id` of a message may be as long as the message.
#[tokio::test]
async fn logs_of_requests_end_sooner_and_go_on() {
    let server = start().await;
    let receiver = Receiver::obliging().await;
    let client = Client::ultracart(&server);
    server.webhook(json!({"topics": "*", "url": receiver.url()})).await;
    for n in 0..7 {
        server.publish("order:created", json!({"order_id": format!("{n} {}", "x".repeat(900))})).await;
    }
    server.settled(1).await;
    for query in ["", "&request=xxx"] {
        let (mut numbers, mut pages, mut more) = (Vec::new(), 0, true);
        while more {
            let page = format!("_offset={}{query}", numbers.len());
            more = client.summaries(&page).await.1;
            numbers.extend(client.logged(&page).await);
            pages += 1;
        }
        assert_eq!(numbers, ["7.1", "6.1", "5.1", "4.1", "3.1", "2.1", "1.1"]);
        assert!(pages > 1, "{pages}");
    }
}
