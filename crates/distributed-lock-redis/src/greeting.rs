//! What a server says that closes a connection instead of answering on it.
//!
//! A server that refuses a client says why and closes the connection at once; the client library then
//! often reports only that it was closed. So the server is asked once more, in plain text.

use std::time::Duration;

use redis::{ConnectionAddr, ErrorKind, RedisError, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long its words are waited for.
const WITHIN: Duration = Duration::from_millis(500);

/// How much of an answer is read.
const MOST: usize = 1024;

/// The better reason for a connection that could not be made, if the server has one to give.
pub(crate) async fn reason(address: &ConnectionAddr, is_resp3: bool) -> Option<RedisError> {
    let asking = async {
        match address {
            ConnectionAddr::Tcp(host, port) => {
                ask(TcpStream::connect((host.as_str(), *port)).await.ok()?).await
            }
            #[cfg(unix)]
            ConnectionAddr::Unix(path) => {
                ask(tokio::net::UnixStream::connect(path).await.ok()?).await
            }
            // Under TLS a server says nothing in plain text.
            _ => None,
        }
    };
    let answer = tokio::time::timeout(WITHIN, asking).await.ok()??;
    explain(&answer, is_resp3)
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<Vec<u8>> {
    // One that has refused already takes nothing more, and has said why.
    let _ = stream.write_all(b"PING\r\n").await;
    let (mut answer, mut part) = (Vec::new(), [0; MOST]);
    while answer.len() < MOST && !answer.contains(&b'\n') {
        match stream.read(&mut part).await {
            Ok(count @ 1..) => answer.extend_from_slice(&part[..count]),
            _ => break,
        }
    }
    (!answer.is_empty()).then_some(answer)
}

fn explain(answer: &[u8], is_resp3: bool) -> Option<RedisError> {
    match answer[0] {
        b'-' => redis::parse_redis_value(answer).and_then(Value::extract_error).err(),
        b'+' if is_resp3 => Some(RedisError::from((
            ErrorKind::RESP3NotSupported,
            "it closes the connection when it is asked for RESP3 by HELLO. Remedy: protocol=resp2",
        ))),
        b'+' => None,
        _ => {
            let line = answer.split(|byte| b"\r\n".contains(byte)).next().unwrap_or_default();
            let line: String = String::from_utf8_lossy(line).chars().take(60).collect();
            let text = "not a Redis server: it answers PING with";
            Some(RedisError::from((ErrorKind::InvalidClientConfig, text, format!("{line:?}"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_own_words_are_used() {
        let words =
            |answer: &str, is_resp3| explain(answer.as_bytes(), is_resp3).map(|e| e.to_string());
        let refused = words("-ERR max number of clients reached\r\n", true).unwrap();
        assert!(refused.contains("max number of clients"), "{refused}");
        assert!(words("+PONG\r\n", true).unwrap().contains("protocol=resp2"));
        assert_eq!(words("+PONG\r\n", false), None);
        assert!(words("HTTP/1.1 400 Bad\r\n", true).unwrap().contains("not a Redis server"));
    }
}
