//! 3dcart's API.

use serde_json::{Value, json};
use tallyhook::domain::time::Timestamp;

use super::{Client, without_nulls};
use crate::common::{DEMO_KEY, Receiver, TestServer};

const PLACES: [&str; 4] =
    ["/3dCartWebAPI/v2/Webhooks", "/3dCartWebAPI/v2/Webhook", "/3dCartWebAPI/v1/Webhooks", "/3dCartWebAPI/v1/Webhook"];
const WEBHOOKS: &str = PLACES[0];

impl<'a> Client<'a> {
    fn three_d_cart(server: &'a TestServer, merchant: &str, name: &str, key: &str) -> Self {
        let headers = [("accept", "application/json"), ("SecureURL", merchant), ("PrivateKey", name), ("Token", key)];
        Self { server, headers: headers.map(|(name, value)| (name, value.to_owned())).into() }
    }

    pub fn shop(server: &'a TestServer) -> Self {
        Self::three_d_cart(server, "https://www.demo/", "demo", DEMO_KEY)
    }

    /// What came of a write, in the dialect's shape.
    async fn told(&self, method: &str, path: &str, body: Value, status: u16, message: &str) -> String {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (found, answer) = self.send(method, path, &body).await;
        assert_eq!(found, status, "{method} {path} {body}: {answer}");
        let id = answer[0]["Value"].as_str().unwrap().to_owned();
        let expected = json!([{"Key": "Id", "Value": id, "Status": status.to_string(), "Message": message}]);
        assert_eq!(answer, expected, "{method} {path}");
        id
    }

    /// A request that must be refused, in the dialect's shape; the message.
    async fn wrong(&self, method: &str, path: &str, body: &str, status: u16) -> String {
        let (found, answer) = self.send(method, path, body).await;
        assert_eq!(found, status, "{method} {path} {body}: {answer}");
        let message = answer[0]["Message"].as_str().unwrap().to_owned();
        let expected = json!([{"Key": "Error", "Value": "", "Status": status.to_string(), "Message": message}]);
        assert_eq!(answer, expected, "{method} {path}");
        message
    }

    async fn rows(&self, path: &str) -> Vec<Value> {
        let (status, answer) = self.send("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {answer}");
        without_nulls(&answer);
        answer.as_array().unwrap_or_else(|| panic!("{path}: {answer}")).clone()
    }
}

async fn catalogue(server: &TestServer) {
    for topic in ["order:created", "inventory:adjustment", "own:topic"] {
        server.call("topic.register", json!([topic])).await.unwrap();
    }
}

fn sample(url: &str) -> Value {
    json!({"Name": "ex ", "Url": url, "EventType": 1, "Enabled": false, "Format": "JSON"})
}

#[tokio::test]
async fn every_documented_request_is_answered_in_its_shape() {
    let server = TestServer::start().await;
    catalogue(&server).await;
    let client = Client::shop(&server);
    for (n, place) in (1..).zip(PLACES) {
        let id = client.told("POST", place, sample("https://example.com/"), 201, "Created successfully").await;
        assert_eq!(id, n.to_string());
        let one = format!("{place}/{id}");
        let rows = client.rows(&one).await;
        let expected = json!([{
            "Id": n, "Name": "ex ", "Url": "https://example.com/", "EventType": 1, "DateCreated": rows[0]["DateCreated"],
            "DateUpdated": rows[0]["DateUpdated"], "Format": "JSON", "Enabled": false
        }]);
        assert_eq!(json!(rows), expected);
        let members: Vec<_> = rows[0].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["Id", "Name", "Url", "EventType", "DateCreated", "DateUpdated", "Format", "Enabled"]);
        // 04/25/2019 16:24
        let date = rows[0]["DateCreated"].as_str().unwrap();
        let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "00/00/0000 00:00");

        let change =
            json!({"Id": n, "Name": "new", "Url": "https://example.com/new", "Enabled": true, "Format": "XML"});
        assert_eq!(client.told("PUT", &one, change, 200, "updated successfully").await, id);
        let changed = client.rows(&one).await;
        assert_eq!((&changed[0]["Name"], &changed[0]["Format"]), (&json!("new"), &json!("XML")));
        assert_eq!((&changed[0]["Enabled"], &changed[0]["EventType"]), (&json!(true), &json!(1)));
        let empty = format!(
            "{place}?limit=&offset=&name=&url=&enabled=&format=&datecreatedstart=&datecreatedend=&dateupdatedstart=&dateupdatedend=&countonly="
        );
        assert_eq!(client.rows(&empty).await, changed);
        let events = client.rows(&format!("{place}/Events?limit=&offset=&name=&countonly=")).await;
        let expected = json!([
            {"EventType": 1, "EventName": "Order New"},
            {"EventType": 2, "EventName": "Product Stock Changed"},
            {"EventType": 3, "EventName": "Own topic"}
        ]);
        assert_eq!(json!(events), expected);
        let mut deleting = Client::shop(&server);
        deleting.headers.push(("content-type", "application/xml".to_owned()));
        assert_eq!(deleting.told("DELETE", &one, Value::Null, 200, "Deleted successfully").await, id);
        client.wrong("GET", &one, "", 404).await;
        client.wrong("GET", place, "", 404).await;
    }
}

#[tokio::test]
async fn lists_have_the_vendors_filters_and_pages() {
    let server = TestServer::start().await;
    catalogue(&server).await;
    let client = Client::shop(&server);
    for n in 1..=12 {
        let data = json!({"Name": format!("hook {}", n % 3), "Url": format!("https://example.com/{n}"), "EventType": 1,
            "Enabled": n % 2, "Format": if n > 10 { "XML" } else { "json" }});
        client.told("POST", WEBHOOKS, data, 201, "Created successfully").await;
    }
    let ids = async |query: &str| -> Vec<i64> {
        client.rows(&format!("{WEBHOOKS}?{query}")).await.iter().map(|row| row["Id"].as_i64().unwrap()).collect()
    };
    assert_eq!(ids("").await, (1..=10).collect::<Vec<_>>());
    assert_eq!(ids("offset=11").await, [11, 12]);
    assert_eq!(ids("offset=0&limit=2").await, [1, 2]);
    assert_eq!(ids("offset=2&limit=2").await, [2, 3]);
    assert_eq!(ids("enabled=1&limit=3").await, [1, 3, 5]);
    assert_eq!(ids("enabled=0&limit=3").await, [2, 4, 6]);
    assert_eq!(ids("enabled=-1&limit=3").await, [1, 2, 3]);
    assert_eq!(ids("format=xml").await, [11, 12]);
    assert_eq!(ids("name=hook+0").await, [3, 6, 9, 12]);
    assert_eq!(ids("url=https://example.com/7").await, [7]);
    assert_eq!(ids("datecreatedstart=01/01/2020%2000:00:00&datecreatedend=12/31/2099&limit=1").await, [1]);
    for query in ["datecreatedstart=01/01/2099 10:00:00", "dateupdatedend=04/25/2019 16:24", "name=nobody"] {
        client.wrong("GET", &format!("{WEBHOOKS}?{}", query.replace(' ', "%20")), "", 404).await;
    }
    let (status, count) = client.send("GET", &format!("{WEBHOOKS}?countonly=1&enabled=1"), "").await;
    assert_eq!((status, count), (200, json!({"TotalCount": 6})));
    // What clients look for when they have seen the last page.
    let beyond = client.wrong("GET", &format!("{WEBHOOKS}?offset=13"), "", 400).await;
    assert_eq!(beyond, "Offset amount exceeds the total number of records");
    let events = client.rows(&format!("{WEBHOOKS}/Events?limit=1&offset=2")).await;
    assert_eq!(events[0]["EventType"], 2);
    assert_eq!(client.rows(&format!("{WEBHOOKS}/Events?name=Order%20New")).await.len(), 1);
    let (_, count) = client.send("GET", &format!("{WEBHOOKS}/Events?countonly=1"), "").await;
    assert_eq!(count, json!({"TotalCount": 3}));
    for query in [
        "limit=0",
        "limit=-1",
        "limit=1001",
        "limit=x",
        "offset=-1",
        "countonly=maybe",
        "enabled=2",
        "format=yaml",
        "datecreatedstart=yesterday",
        "dateupdatedend=13/01/2026",
    ] {
        client.wrong("GET", &format!("{WEBHOOKS}?{query}"), "", 400).await;
    }
}

/// What the dialect lacks keeps its value through its PUT.
#[tokio::test]
async fn a_webhook_of_another_dialect_is_shown_and_keeps_what_it_has() {
    let server = TestServer::start().await;
    catalogue(&server).await;
    let client = Client::shop(&server);
    let before = server
        .webhook(json!({"topics": "order:*,own:topic", "url": "https://shop.example.com/x", "extra_headers": "X-A: 1",
            "retry": [5, 60], "batch": {"max_events": 5, "max_size": 100000, "wait_ms": 0}, "description": "kept"}))
        .await;
    let shown = client.rows(&format!("{WEBHOOKS}/1")).await.remove(0);
    assert_eq!((&shown["Name"], &shown["EventType"]), (&json!("shop.example.com"), &json!(0)));
    client.told("PUT", &format!("{WEBHOOKS}/1"), shown, 200, "updated successfully").await;
    let after = server.call("webhook.get", json!([1])).await.unwrap();
    for (key, value) in before.as_object().unwrap().iter().filter(|(key, _)| *key != "updated_at") {
        assert_eq!(after[key], *value, "{key}");
    }
    let told = client.wrong("PUT", &format!("{WEBHOOKS}/1"), r#"{"Format": "XML"}"#, 400).await;
    assert!(told.contains("Format: xml needs the format 3dcart"), "{told}");
}

#[tokio::test]
async fn xml_goes_in_and_comes_out() {
    let server = TestServer::start().await;
    catalogue(&server).await;
    let receiver = Receiver::obliging().await;
    let headers = |more: &'static [(&'static str, &'static str)]| -> Vec<(&'static str, &'static str)> {
        [&[("SecureURL", "demo"), ("PrivateKey", "demo"), ("Token", DEMO_KEY)], more].concat()
    };
    let both = headers(&[("content-type", "application/xml"), ("accept", "text/xml")]);
    let body = format!(
        "<?xml version=\"1.0\"?><WebhookPOST><Name>a &amp; b</Name><Url>{}</Url><EventType>1</EventType>\
         <Format>XML</Format><Enabled>true</Enabled></WebhookPOST>",
        receiver.url()
    );
    let (status, head, text) = server.exchange("POST", WEBHOOKS, &both, &body).await;
    assert_eq!((status, head["content-type"].to_str().unwrap()), (201, "application/xml; charset=utf-8"));
    let declared = "<?xml version=\"1.0\" encoding=\"utf-8\"?>";
    assert_eq!(
        text,
        format!(
            "{declared}<ArrayOfResponse><Response><Key>Id</Key><Value>1</Value><Status>201</Status><Message>Created successfully</Message></Response></ArrayOfResponse>"
        )
    );
    let (_, _, text) = server.exchange("GET", WEBHOOKS, &headers(&[("accept", "application/xml")]), "").await;
    assert!(
        text.starts_with(&format!("{declared}<ArrayOfWebhook><Webhook><Id>1</Id><Name>a &amp; b</Name>")),
        "{text}"
    );
    let (_, _, text) =
        server.exchange("GET", &format!("{WEBHOOKS}/Events"), &headers(&[("accept", "application/xml")]), "").await;
    assert!(text.starts_with(&format!("{declared}<ArrayOfEvent><Event><EventType>1</EventType>")), "{text}");
    let (_, head, _) =
        server.exchange("GET", WEBHOOKS, &headers(&[("accept", "application/json, application/xml")]), "").await;
    assert_eq!(head["content-type"], "application/json");

    server.publish("order:created", json!({"order_id": 7})).await;
    let arrived = receiver.arrivals(1).await.remove(0);
    let delivered = String::from_utf8(arrived.body.to_vec()).unwrap();
    assert_eq!(delivered, format!("{declared}<ArrayOfOrder><Order><order_id>7</order_id></Order></ArrayOfOrder>"));

    for (body, problem) in [
        ("<A><Name>x</Name>", "ends too soon"),
        ("<!DOCTYPE A [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><A><Name>&b;</Name></A>", "document type"),
        ("<!DOCTYPE A [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><A><Name>&x;</Name></A>", "document type"),
        ("<A><Name>&x;</Name></A>", "unknown entity"),
        ("<A><Name><B>x</B></Name></A>", "Name has elements in it"),
        ("no XML", "The XML can't be read"),
    ] {
        let (status, _, text) = server.exchange("POST", WEBHOOKS, &both, body).await;
        assert!(status == 400 && text.contains("<Key>Error</Key>"), "{body}: {status} {text}");
        let told = text.replace("&apos;", "'");
        assert!(told.contains(problem), "{body}: {told}");
    }
}

#[tokio::test]
async fn bad_requests_are_refused_in_the_dialects_shape() {
    let server = TestServer::start().await;
    catalogue(&server).await;
    let client = Client::shop(&server);
    client.told("POST", WEBHOOKS, sample("https://example.com/"), 201, "Created successfully").await;
    let before = client.rows(WEBHOOKS).await;
    let with = |key: &str, value: Value| {
        let mut data = sample("https://example.com/");
        data[key] = value;
        data.to_string()
    };
    let without = |key: &str| {
        let mut data = sample("https://example.com/");
        data.as_object_mut().unwrap().remove(key);
        data.to_string()
    };
    for (body, problem) in [
        (String::new(), "missing field `Name`"),
        ("{".to_owned(), "The body is no JSON"),
        (without("Name"), "missing field `Name`"),
        (without("Url"), "missing field `Url`"),
        (without("EventType"), "missing field `EventType`"),
        (without("Enabled"), "missing field `Enabled`"),
        (with("Name", json!("")), "Name: has 0 characters"),
        (with("Name", json!("x".repeat(81))), "Name: has 81 characters"),
        (with("Url", json!("ex nostrud")), "Url: is no absolute URL"),
        (with("Url", json!(format!("https://example.com/{}", "x".repeat(1_000)))), "Url: has 1020 characters"),
        (with("EventType", json!(19_757_695)), "EventType: there is no 19757695"),
        (with("EventType", json!("many")), "EventType: "),
        (with("Enabled", json!("maybe")), "Enabled: "),
        (with("Format", json!("cupidatat aliquip in ")), "Format: must be JSON or XML"),
    ] {
        let told = client.wrong("POST", WEBHOOKS, &body, 400).await;
        assert!(told.contains(problem), "{body}: {told}");
    }
    for (method, path, body, status) in [
        ("GET", "/3dCartWebAPI/v2/Webhooks/999", "", 404),
        ("PUT", "/3dCartWebAPI/v2/Webhooks/999", "{}", 404),
        ("DELETE", "/3dCartWebAPI/v2/Webhooks/999", "", 404),
        ("GET", "/3dCartWebAPI/v2/Webhooks/x", "", 400),
        ("PUT", "/3dCartWebAPI/v2/Webhooks/1", r#"{"Id": -45814576}"#, 400),
        ("GET", "/3dCartWebAPI/v3/Webhooks", "", 404),
        ("GET", "/3dCartWebAPI/v2/Orders", "", 404),
        ("PATCH", "/3dCartWebAPI/v2/Webhooks", "", 405),
    ] {
        client.wrong(method, path, body, status).await;
    }
    assert_eq!(client.rows(WEBHOOKS).await, before);
}

#[tokio::test]
async fn nobody_gets_in_without_the_three_headers_or_further_than_allowed() {
    let server = TestServer::start().await;
    catalogue(&server).await;
    let owner = Client::shop(&server);
    owner.told("POST", WEBHOOKS, sample("https://example.com/"), 201, "Created successfully").await;
    for store in ["demo", "DEMO", "www.demo", "http://demo", "https://www.demo/"] {
        Client::three_d_cart(&server, store, "demo", DEMO_KEY).rows(WEBHOOKS).await;
    }
    for (store, name, key) in
        [("other", "demo", DEMO_KEY), ("", "demo", DEMO_KEY), ("demo", "demo", "wrong"), ("demo", "nobody", DEMO_KEY)]
    {
        Client::three_d_cart(&server, store, name, key).wrong("GET", WEBHOOKS, "", 401).await;
    }
    Client { server: &server, headers: vec![] }.wrong("GET", WEBHOOKS, "", 401).await;
    let bearer = Client { server: &server, headers: vec![("authorization", format!("Bearer {DEMO_KEY}"))] };
    bearer.rows(WEBHOOKS).await;

    let reader = server.user("reader", "demo", "webhook_read");
    let reader = Client::three_d_cart(&server, "demo", "reader", &reader);
    reader.rows(WEBHOOKS).await;
    reader.wrong("POST", WEBHOOKS, &sample("https://example.com/").to_string(), 401).await;
    reader.wrong("DELETE", &format!("{WEBHOOKS}/1"), "", 401).await;
    server.place.administer(|admin| admin.set_enabled("reader", false, Timestamp(0))).unwrap();
    let told = reader.wrong("GET", WEBHOOKS, "", 401).await;
    assert!(told.starts_with("The user is disabled."), "{told}");
    let stranger = server.user("stranger", "globex", "admin");
    let stranger = Client::three_d_cart(&server, "globex", "stranger", &stranger);
    stranger.wrong("GET", WEBHOOKS, "", 404).await;
    stranger.wrong("GET", &format!("{WEBHOOKS}/1"), "", 404).await;
    stranger.wrong("DELETE", &format!("{WEBHOOKS}/1"), "", 404).await;
    assert_eq!(owner.rows(WEBHOOKS).await.len(), 1);
}
