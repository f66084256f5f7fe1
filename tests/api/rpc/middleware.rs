//! What the vendor's own middleware in PHP does, request by request: it looks
//! whether anybody is there, logs in, keeps the session until that has expired,
//! sets up a webhook, and has its receiver take what arrives. Its client and
//! its receiver are those of github.com/ShipStream/middleware, `JsonClient.php`
//! and `respond.php`.

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::DEMO_KEY;
use crate::common::{Arrived, Receiver, Reply, Start, TestServer};

const SECRET: &str = "a secret of the middleware";
const SESSION_EXPIRED: i64 = 5;

/// Its client.
struct Client<'a> {
    server: &'a TestServer,
    base_path: &'a str,
    session: Option<String>,
}

impl Client<'_> {
    /// A body to its base URL, with what goes with each of its requests.
    async fn post(&self, body: &str) -> Value {
        let headers = [
            ("connection", "close"),
            ("accept-encoding", "gzip, deflate"),
            ("user-agent", "Zend_Http_Client"),
            ("content-type", "application/json"),
            ("accept", "application/json"),
        ];
        let (status, _, text) = self.server.exchange("POST", self.base_path, &headers, body).await;
        assert_eq!(status, 200, "nothing else is successful: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn ask(&self, method: &str, params: Value) -> Result<Value, (i64, String)> {
        let body = json!({"jsonrpc": "2.0", "id": "65687a1f4c2b9", "method": method, "params": params});
        let answer = self.post(&body.to_string()).await;
        match &answer["error"] {
            Value::Null => Ok(answer["result"].clone()),
            error => {
                // This is how it reads a code.
                let code = -error["code"].as_i64().unwrap() - 32_000;
                Err((code, error["message"].as_str().unwrap().to_owned()))
            }
        }
    }

    async fn login(&mut self) {
        let session = self.ask("login", json!(["demo", DEMO_KEY])).await.unwrap();
        self.session = Some(session.as_str().unwrap().to_owned());
    }

    /// A call; if the session has expired it logs in again, once.
    async fn call(&mut self, path: &str, args: Value) -> Result<Value, (i64, String)> {
        if self.session.is_none() {
            self.login().await;
        }
        match self.ask("call", json!([self.session, path, args])).await {
            Err((SESSION_EXPIRED, _)) => {
                self.login().await;
                self.ask("call", json!([self.session, path, args])).await
            }
            other => other,
        }
    }
}

/// Its receiver: the topic, if it takes the request; else the status that it
/// answers with. PHP takes an empty array for nothing.
fn respond(arrived: &Arrived) -> Result<String, u16> {
    let data = arrived.json();
    let topic = data["topic"].as_str().filter(|topic| !topic.is_empty() && *topic != "0").ok_or(400_u16)?;
    let message = data["message"].as_object().filter(|message| !message.is_empty()).ok_or(400_u16)?;
    topic.split_once(':').ok_or(500_u16)?;
    assert!(message["webhook_increment_id"].is_u64(), "{data}");
    Ok(topic.to_owned())
}

#[tokio::test]
async fn its_steps_work_from_the_set_up_to_a_delivery() {
    for base_path in ["/api/jsonrpc", "/api/jsonrpc/"] {
        let server = TestServer::start().await;
        let receiver = Receiver::start(|_, arrived| Reply::status(respond(arrived).err().unwrap_or(200))).await;
        let mut client = Client { server: &server, base_path, session: None };

        let nobody = client.post("").await;
        assert_eq!(
            (&nobody["error"]["code"], &nobody["error"]["message"]),
            (&json!(-32_600), &json!("No method specified."))
        );

        // Without arguments, with one that is no array, and with an array.
        assert_eq!(client.call("webhook.list", json!([])).await, Ok(json!([])));
        let url = format!("{}respond.php?plugin=ShipStream_Test", receiver.url());
        let data = json!({"is_active": "1", "topics": "order:*,test:ping", "url": url, "secret_key": SECRET, "extra_headers": ""});
        assert_eq!(client.call("webhook.create", json!([data])).await, Ok(json!(true)));
        let listed = client.call("webhook.list", json!([])).await.unwrap();
        let id = listed[0]["webhook_id"].as_i64().unwrap();
        assert_eq!(listed[0]["url"], url);
        let (code, message) = client.call("webhook.delete", json!(999)).await.unwrap_err();
        assert_eq!((code, message.starts_with("Webhook not exists.")), (103, true), "{message}");

        // A ping, and an event that says nothing: neither is nothing to PHP.
        let ping = client.call("webhook.test", json!([id])).await.unwrap();
        assert_eq!(ping["delivery"]["state"], "delivered", "{ping}");
        client.call("event.publish", json!(["order:created", {}])).await.unwrap();
        client.call("event.publish", json!(["order:completed", {"order_increment_id": "100000017"}])).await.unwrap();
        let arrivals = receiver.arrivals(3).await;
        let topics: Vec<_> = arrivals.iter().map(|arrived| respond(arrived).unwrap()).collect();
        assert_eq!(topics, ["test:ping", "order:created", "order:completed"]);
        for (arrived, number) in arrivals.iter().zip(1..) {
            assert_eq!(arrived.header("content-type"), "application/json");
            assert_eq!(arrived.json()["message"]["webhook_increment_id"], number);
            let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
            mac.update(&arrived.body);
            let expected =
                base64::Engine::encode(&base64::engine::general_purpose::STANDARD, mac.finalize().into_bytes());
            assert_eq!(arrived.header("x-plugin-hmac-sha256"), expected);
        }

        // It keeps its session in a file for an hour, whatever has become of it here.
        let kept = client.session.clone().unwrap();
        client.ask("endSession", json!([kept])).await.unwrap();
        assert_eq!(client.ask("call", json!([kept, "webhook.list", []])).await.unwrap_err().0, SESSION_EXPIRED);
        assert_eq!(client.call("webhook.list", json!([])).await.unwrap()[0]["webhook_id"], id);
        assert_ne!(client.session, Some(kept));
    }
}

/// A wrong password, which it shows as it is told.
#[tokio::test]
async fn it_is_told_that_its_password_is_wrong() {
    let server = Start::default().go().await;
    let client = Client { server: &server, base_path: "/api/jsonrpc", session: None };
    let (code, message) = client.ask("login", json!(["demo", "wrong"])).await.unwrap_err();
    assert_eq!((code, message.starts_with("Access denied.")), (2, true), "{message}");
}
