//! Answers that bend the rules of HTTP, and are read by what people try their
//! receivers with.

use super::*;

#[tokio::test]
async fn what_curl_takes_is_taken() {
    let many = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x-a: b\r\n".repeat(999));
    for answer in [
        "HTTP/1.1 200 OK\r\nx-a: b\r\n  and more\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a : b\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n",
        "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        "HTTP/1.1 200 OK\r\nx-a: \u{e9}\r\ncontent-length: 0\r\n\r\n",
        &many,
    ] {
        assert_eq!(class_of(answer, Then::Listen).await, None, "{answer:?}");
    }
}

#[tokio::test]
async fn folded_headers_are_logged_as_one() {
    let receiver =
        Receiver::new("HTTP/1.1 200 OK\r\nx-a: b\r\n  and more\r\ncontent-length: 0\r\n\r\n", Then::Listen).await;
    let result = post(&client(), &receiver.url()).await;
    assert!(result.logged_headers.contains("x-a: b and more"), "{:?}", result.logged_headers);
}

#[tokio::test]
async fn what_cannot_be_read_is_shown() {
    for (answer, shown) in [
        ("SSH-2.0-OpenSSH_9.6\r\n", r#"it begins with "SSH-2.0-OpenSSH_9.6\r\n""#),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", r#"it begins with "HTTP/1.1 200 OK\r\nno colon\r\n\r\n""#),
        ("\u{1}\u{e9}\"\r\n\r\n", r#"it begins with "\x01\xc3\xa9\"\r\n\r\n""#),
    ] {
        let receiver = Receiver::new(answer, Then::Listen).await;
        let result = post(&client(), &receiver.url()).await;
        assert_eq!(class(&result), Some(ErrorClass::Protocol));
        assert!(detail(&result).contains(shown), "{}", detail(&result));
    }
    let long = format!("{}\r\n\r\n", "x".repeat(10_000));
    let receiver = Receiver::new(long, Then::Listen).await;
    let result = post(&client(), &receiver.url()).await;
    assert!(detail(&result).contains(&format!("\"{}\" …", "x".repeat(SHOWN_BYTES_MAX))), "{}", detail(&result));
}

/// What was begun and broken off may be the head that was meant.
#[tokio::test]
async fn what_was_broken_off_is_shown() {
    let receiver = Receiver::new("HTTP/1.1 200 OK\r\nx-a", Then::Close).await;
    let result = post(&client(), &receiver.url()).await;
    let shown = r#"the connection was closed within the head of the answer; it begins with "HTTP/1.1 200 OK\r\nx-a""#;
    assert_eq!((class(&result), detail(&result)), (Some(ErrorClass::Protocol), shown));
}

/// A receiver is not listened to for as long as it likes.
#[tokio::test]
async fn no_answer_takes_up_the_thread_with_next_to_nothing() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000);
    let receiver = Receiver::new(format!("{interim}HTTP/1.1 204 No Content\r\n\r\n"), Then::Listen).await;
    let result = post(&client(), &receiver.url()).await;
    assert_eq!(class(&result), Some(ErrorClass::Protocol), "{}", detail(&result));
    assert!(detail(&result).contains("the answer is too long"), "{}", detail(&result));

    let pieces = "1\r\nx\r\n".repeat(5_000);
    let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{pieces}0\r\n\r\n");
    let receiver = Receiver::new(answer, Then::Listen).await;
    let result = post(&client(), &receiver.url()).await;
    assert_eq!(class(&result), None, "its status counts");
    let kept = result.response_body.len();
    assert!((1_000..5_000).contains(&kept), "{kept} bytes of the body are kept");
}
