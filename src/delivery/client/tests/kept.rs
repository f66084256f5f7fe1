//! Connections that are kept, and found closed.

use super::*;

/// What a receiver does with a request.
#[derive(Clone, Copy)]
enum Act {
    /// Answers, and listens on.
    Answer(&'static str),
    /// Ends the connection after so much of an answer.
    End(&'static str),
    /// Breaks the connection off.
    Reset,
}

use Act::{Answer, End, Reset};

/// Does so with each request of the first connection, of the second, and so on.
async fn scripted(script: Vec<Vec<Act>>) -> Receiver {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let receiver = Receiver { port, connections: Arc::default(), requests: Arc::default() };
    let (connections, requests) = (receiver.connections.clone(), receiver.requests.clone());
    tokio::spawn(async move {
        for acts in script {
            let (mut stream, _) = listener.accept().await.unwrap();
            *connections.lock().unwrap() += 1;
            let requests = requests.clone();
            tokio::spawn(async move {
                for act in acts {
                    let Some(request) = read_request(&mut stream).await? else { return Ok(()) };
                    requests.lock().unwrap().push(request);
                    match act {
                        Answer(answer) => stream.write_all(answer.as_bytes()).await?,
                        End(answer) => {
                            stream.write_all(answer.as_bytes()).await?;
                            return stream.shutdown().await;
                        }
                        Reset => return stream.set_zero_linger(),
                    }
                }
                // Stays open until the client goes away.
                stream.read(&mut [0]).await.map(drop)
            });
        }
    });
    receiver
}

/// The error of each of two posts, one after the other, and how many connections and requests they took.
async fn two_posts(script: Vec<Vec<Act>>) -> ([Option<ErrorClass>; 2], usize, Vec<String>) {
    let receiver = scripted(script).await;
    let client = client();
    let first = class(&post(&client, &receiver.url()).await);
    let second = class(&post(&client, &receiver.url()).await);
    let connections = *receiver.connections.lock().unwrap();
    ([first, second], connections, receiver.requests())
}

/// Moves the clock, which else goes on by itself: a clock that stands leaps
/// ahead while a connection is waited for.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn what_met_a_closed_connection_is_sent_once_more() {
    for closed in [End(""), Reset] {
        let script = vec![vec![Answer(OK), closed], vec![Answer(OK)]];
        let (errors, connections, requests) = two_posts(script).await;
        assert_eq!((errors, connections, requests.len()), ([None, None], 2, 3));
        assert_eq!(requests[1], requests[2], "the same again");
    }
}

#[tokio::test]
async fn it_is_sent_once_more_and_not_twice() {
    for closed in [End(""), Reset] {
        let script = vec![vec![Answer(OK), closed], vec![closed], vec![Answer(OK)]];
        let (errors, connections, requests) = two_posts(script).await;
        assert_eq!((errors, connections, requests.len()), ([None, Some(ErrorClass::Protocol)], 2, 3));
    }
}

#[tokio::test]
async fn what_was_answered_in_part_is_not_sent_again() {
    for begun in ["H", "HTTP/1.1 200 OK\r\nx-a: b\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n", "nonsense\r\n\r\n"] {
        let script = vec![vec![Answer(OK), End(begun)], vec![Answer(OK)]];
        let (errors, connections, _) = two_posts(script).await;
        assert_eq!((errors, connections), ([None, Some(ErrorClass::Protocol)], 1), "{begun}");
    }
}

#[tokio::test]
async fn a_new_connection_that_is_closed_is_a_failure() {
    for closed in [End(""), Reset] {
        let (errors, connections, requests) = two_posts(vec![vec![closed], vec![Answer(OK)]]).await;
        assert_eq!((errors, connections, requests.len()), ([Some(ErrorClass::Protocol), None], 2, 2));
    }
}

#[tokio::test]
async fn the_receiver_says_how_long_it_keeps_a_connection() {
    async fn connections(keep_alive: &str, between: Duration) -> usize {
        let answer = format!("HTTP/1.1 204 No Content\r\nkeep-alive: {keep_alive}\r\n\r\n");
        let receiver = Receiver::new(answer, Then::Listen).await;
        let client = client();
        assert_eq!(class(&post(&client, &receiver.url()).await), None);
        pass(between).await;
        assert_eq!(class(&post(&client, &receiver.url()).await), None);
        *receiver.connections.lock().unwrap()
    }
    for (keep_alive, seconds, expected) in [
        ("timeout=5", 4, 1),
        ("timeout=5, max=100", 6, 2),
        ("max=100,Timeout = \"5\"", 6, 2),
        ("timeout=0", 0, 2),
        // What can't be understood says nothing, nor does more than we keep it.
        ("timeout=soon", 6, 1),
        ("5", 6, 1),
        ("timeout=3600", 6, 1),
        ("timeout=99999999999999999999", 6, 1),
    ] {
        assert_eq!(connections(keep_alive, Duration::from_secs(seconds)).await, expected, "{keep_alive}");
    }
}

/// 127.0.0.1 is allowed, so it stands for a public address.
#[tokio::test]
async fn the_name_is_looked_up_again_after_a_while() {
    let receiver = Receiver::new(OK, Then::Listen).await;
    let client = client_with(&["127.0.0.1/32"], &["127.0.0.1", "127.0.0.2"]);
    let url = format!("http://a.test:{}/", receiver.port);
    // It is used all the time, and never idle for long.
    for _ in 0..4 {
        assert_eq!(class(&post(&client, &url).await), None);
        pass(AGE_MAX / 4).await;
    }
    assert_eq!(*receiver.connections.lock().unwrap(), 1);
    assert_eq!(class(&post(&client, &url).await), Some(ErrorClass::AddressRefused));
}
