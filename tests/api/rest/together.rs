//! The dialects over one core: what is made in one is there in all.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Client;
use crate::common::{DEMO_KEY, Receiver, TestServer};

/// Makes a webhook in each of the four dialects, for orders that are created.
/// Their ids are 1 to 4.
async fn one_of_each(server: &TestServer, receiver: &Receiver) {
    server.call("topic.register", json!(["order:created", {"event_type": 7}])).await.unwrap();
    let url = |name: &str| format!("{}/{name}", receiver.url());
    server.webhook(json!({"name": "rpc", "topics": "order:created", "url": url("rpc")})).await;
    let subscription = json!({"name": "babel", "eventType": "order:created", "url": url("babel"), "secret": "",
        "headers": {}, "maxRetryCount": 3, "isActive": true});
    let body = json!({ "subscription": subscription }).to_string();
    let (status, answer) = Client::babel(server, DEMO_KEY).send("POST", "/v1/webhooks/subscriptions", &body).await;
    assert_eq!(status, 200, "{answer}");
    let body = json!({"Name": "3dcart", "Url": url("3dcart"), "EventType": 7, "Enabled": true, "Format": "JSON"});
    let (status, answer) = Client::shop(server).send("POST", "/3dCartWebAPI/v2/Webhooks", &body.to_string()).await;
    assert_eq!(status, 201, "{answer}");
    let events = json!([{"event_category": "order", "events": [{"event_name": "order_create"}]}]);
    let body = json!({"name": "ultracart", "webhook_url": url("ultracart"), "event_categories": events});
    let path = "/rest/v2/webhook/webhooks";
    let (status, answer) = Client::ultracart(server).send("POST", path, &body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
}

/// Id, name, URL, and whether it is on, as each row has them.
fn rows(list: &Value, [id, name, url]: [&str; 3], is_on: impl Fn(&Value) -> bool) -> Vec<(i64, String, String, bool)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |row: &Value| (row[id].as_i64().unwrap(), text(&row[name]), text(&row[url]), is_on(row));
    list.as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn a_webhook_of_each_dialect_is_listed_in_all_of_them() {
    let (server, receiver) = (TestServer::start().await, Receiver::obliging().await);
    one_of_each(&server, &receiver).await;
    server.call("webhook.update_status", json!([{"webhook_id": 3, "status": 0}])).await.unwrap();
    let names = ["rpc", "babel", "3dcart", "ultracart"];
    let expected: Vec<_> = (1_i64..)
        .zip(names)
        .map(|(id, name)| (id, name.to_owned(), format!("{}/{name}", receiver.url()), id != 3))
        .collect();

    let mut own = Vec::new();
    for item in server.call("webhook.list", json!([])).await.unwrap().as_array().unwrap() {
        own.push(server.call("webhook.get", json!([item["webhook_id"]])).await.unwrap());
    }
    assert_eq!(rows(&json!(own), ["webhook_id", "name", "url"], |row| row["is_active"] == 1), expected);
    let (_, babel) = Client::babel(&server, DEMO_KEY).send("GET", "/v1/webhooks/subscriptions", "").await;
    let babel = rows(&babel["subscriptions"], ["id", "name", "url"], |row| row["isActive"] == true);
    assert_eq!(babel, expected);
    let (_, three_d_cart) = Client::shop(&server).send("GET", "/3dCartWebAPI/v2/Webhooks", "").await;
    assert_eq!(rows(&three_d_cart, ["Id", "Name", "Url"], |row| row["Enabled"] == true), expected);
    assert!(three_d_cart.as_array().unwrap().iter().all(|row| row["EventType"] == 7), "{three_d_cart}");
    let (_, ultracart) = Client::ultracart(&server).send("GET", "/rest/v2/webhook/webhooks", "").await;
    let webhooks = &ultracart["webhooks"];
    assert_eq!(rows(webhooks, ["webhook_oid", "name", "webhook_url"], |row| row["disabled"] == false), expected);
    for row in webhooks.as_array().unwrap() {
        let names: Vec<_> = row["event_categories"][0]["events"].as_array().unwrap().iter().collect();
        assert!(names.len() == 1 && names[0]["event_name"] == "order_create", "{row}");
    }
}

#[tokio::test]
async fn one_event_goes_out_in_the_format_of_each_dialect() {
    let (server, receiver) = (TestServer::start().await, Receiver::obliging().await);
    one_of_each(&server, &receiver).await;
    server.webhook(json!({"topics": "order:*", "url": format!("{}/xml", receiver.url()), "format": "3dcart", "encoding": "xml"})).await;
    server.webhook(json!({"topics": "order:*", "url": format!("{}/gzip", receiver.url()), "format": "ultracart", "encoding": "gzip"})).await;
    server
        .webhook(json!({"topics": "order:*", "url": format!("{}/shipstream", receiver.url()), "format": "shipstream"}))
        .await;
    server.publish("order:created", json!({"order_id": 7})).await;
    let arrived = receiver.arrivals(7).await;
    let body = |name: &str| {
        let found = arrived.iter().find(|arrival| arrival.path.ends_with(name)).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(found.number(), 1);
        String::from_utf8(found.body.to_vec()).unwrap()
    };
    for (name, id) in [("rpc", 1), ("babel", 2)] {
        let envelope: Value = serde_json::from_str(&body(name)).unwrap();
        let members: Vec<_> = envelope.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["webhook_id", "increment_id", "event_id", "topic", "created_at", "message"]);
        assert_eq!((&envelope["webhook_id"], &envelope["message"]), (&json!(id), &json!({"order_id": 7})));
    }
    assert_eq!(body("3dcart"), r#"[{"order_id":7}]"#);
    assert_eq!(body("ultracart"), r#"{"events": [{"order_create": {"order_id":7}}]}"#);
    assert!(body("xml").ends_with("<ArrayOfOrder><Order><order_id>7</order_id></Order></ArrayOfOrder>"));
    assert!(
        body("shipstream")
            .starts_with(r#"{"topic": "order:created", "message": {"order_id":7, "webhook_increment_id": 1"#)
    );
    let packed: Value = serde_json::from_str(&body("gzip")).unwrap();
    assert_eq!(unpacked(&packed), r#"[{"order_create": {"order_id":7}}]"#);
}

/// The events of a body that holds them in gzip.
pub fn unpacked(body: &Value) -> String {
    let gzip = STANDARD.decode(body["events"].as_str().unwrap()).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(gzip.as_slice()).read_to_string(&mut text).unwrap();
    text
}
