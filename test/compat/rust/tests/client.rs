//! The official Rust client against the built server.

use oxia::{ComparisonType, GetResult, OxiaClient, OxiaError};
use std::future::{Future, IntoFuture};
use std::time::{Duration, Instant};
use varia_compat::Server;

const SAMPLE: [&str; 18] = [
    "a", "b", "z", "~", "é", "a/", "a/b", "/", "/a", "/b", "//", "/a/", "/a/x", "/a/y", "/a//",
    "/b/x", "/a/x/1", "/c/d/e",
];

async fn connect(server: &Server) -> OxiaClient {
    OxiaClient::builder()
        .service_address(server.address())
        .request_timeout(Duration::from_secs(20))
        .build()
        .await
        .unwrap()
}

async fn put_all(client: &OxiaClient, keys: &[String]) {
    let puts: Vec<_> = keys
        .iter()
        .map(|key| {
            let put = client.put(key.clone(), key.clone());
            tokio::spawn(async move { put.await })
        })
        .collect();
    for put in puts {
        put.await.unwrap().unwrap();
    }
}

fn keys(records: &[GetResult]) -> Vec<&str> {
    records.iter().map(|record| record.key.as_str()).collect()
}

fn value(record: &GetResult) -> &[u8] {
    record.value.as_deref().unwrap_or_default()
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| key.to_string()).collect()
}

/// Calls until it succeeds: the client may have been told of the loss just now.
async fn eventually<T, F: Future<Output = Result<T, OxiaError>>>(attempt: impl Fn() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut poll = tokio::time::interval(Duration::from_millis(50));
    loop {
        match attempt().await {
            Ok(result) => return result,
            Err(error) if Instant::now() > deadline => panic!("{error}"),
            Err(_) => poll.tick().await,
        };
    }
}

#[tokio::test]
async fn puts_gets_and_deletes() {
    for shards in [1, 4] {
        let server = Server::start(shards, &[]);
        let client = connect(&server).await;
        let first = client.put("a", "0").await.unwrap();
        assert_eq!(first.key, "a");
        assert_eq!(
            (first.version.version_id, first.version.modifications_count),
            (0, 0)
        );
        assert!(!first.version.is_ephemeral());
        let second = client.put("a", "1").await.unwrap();
        assert_eq!(
            (
                second.version.version_id,
                second.version.modifications_count
            ),
            (1, 1)
        );
        assert_eq!(
            second.version.created_timestamp,
            first.version.created_timestamp
        );

        let read = client.get("a").await.unwrap();
        assert_eq!((read.key.as_str(), value(&read)), ("a", b"1".as_slice()));
        assert_eq!(read.version, second.version);
        assert_eq!(
            client.get("a").include_value(false).await.unwrap().value,
            None
        );

        client.delete("a").await.unwrap();
        assert!(matches!(client.get("a").await, Err(OxiaError::KeyNotFound)));
        assert!(matches!(
            client.delete("a").await,
            Err(OxiaError::KeyNotFound)
        ));
        client.close().await.unwrap();
    }
}

#[tokio::test]
async fn checks_expected_versions() {
    let server = Server::start(1, &[]);
    let client = connect(&server).await;
    let refused = |result: Result<_, OxiaError>| {
        assert!(matches!(result, Err(OxiaError::UnexpectedVersionId)))
    };
    refused(client.put("a", "x").expected_version_id(3).await.map(drop));
    let first = client
        .put("a", "0")
        .expected_record_not_exists()
        .await
        .unwrap()
        .version;
    refused(
        client
            .put("a", "x")
            .expected_record_not_exists()
            .await
            .map(drop),
    );
    let second = client
        .put("a", "1")
        .expected_version_id(first.version_id)
        .await
        .unwrap()
        .version;
    refused(
        client
            .put("a", "x")
            .expected_version_id(first.version_id)
            .await
            .map(drop),
    );
    refused(
        client
            .delete("a")
            .expected_version_id(first.version_id)
            .await,
    );
    assert_eq!(value(&client.get("a").await.unwrap()), b"1");
    client
        .delete("a")
        .expected_version_id(second.version_id)
        .await
        .unwrap();
    assert!(matches!(client.get("a").await, Err(OxiaError::KeyNotFound)));
}

#[tokio::test]
async fn lists_scans_and_deletes_ranges() {
    for shards in [1, 4] {
        let server = Server::start(shards, &[]);
        let client = connect(&server).await;
        put_all(&client, &owned(&["a", "b", "c", "d", "e", "f"])).await;
        assert_eq!(client.list("b", "e").await.unwrap(), ["b", "c", "d"]);
        assert_eq!(
            client.list("", "").await.unwrap(),
            ["a", "b", "c", "d", "e", "f"]
        );
        assert!(client.list("e", "b").await.unwrap().is_empty());
        let records = client.range_scan("b", "e").await.unwrap();
        assert_eq!(keys(&records), ["b", "c", "d"]);
        assert!(
            records
                .iter()
                .all(|record| value(record) == record.key.as_bytes())
        );
        client.delete_range("b", "e").await.unwrap();
        assert_eq!(client.list("", "").await.unwrap(), ["a", "e", "f"]);
        client.delete_range("b", "").await.unwrap();
        assert_eq!(client.list("", "").await.unwrap(), ["a"]);
    }
}

async fn check_comparisons(client: &OxiaClient, order: &[String]) {
    use ComparisonType::{Ceiling, Equal, Floor, Higher, Lower};
    for (index, key) in order.iter().enumerate() {
        for (comparison, expected) in [
            (Equal, Some(index)),
            (Floor, Some(index)),
            (Ceiling, Some(index)),
            (Lower, index.checked_sub(1)),
            (Higher, Some(index + 1)),
        ] {
            let found = client.get(key.clone()).comparison(comparison).await;
            match expected.and_then(|at| order.get(at)) {
                Some(wanted) => {
                    let found =
                        found.unwrap_or_else(|error| panic!("{comparison:?} {key}: {error}"));
                    assert_eq!(&found.key, wanted, "{comparison:?} {key}");
                    assert_eq!(value(&found), wanted.as_bytes());
                }
                None => assert!(
                    matches!(found, Err(OxiaError::KeyNotFound)),
                    "{comparison:?} {key}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn compares_in_hierarchical_order() {
    let server = Server::start(1, &[]);
    let client = connect(&server).await;
    let order = owned(&SAMPLE);
    put_all(&client, &order).await;
    assert_eq!(client.list("", "").await.unwrap(), order);
    check_comparisons(&client, &order).await;
    assert_eq!(
        client.list("/a/", "/a//").await.unwrap(),
        ["/a/", "/a/x", "/a/y"]
    );
    assert_eq!(client.list("/", "//").await.unwrap(), ["/", "/a", "/b"]);
}

#[tokio::test]
async fn compares_in_natural_order() {
    let server = Server::start(1, &["--key-sorting", "natural"]);
    let client = connect(&server).await;
    let mut order = owned(&SAMPLE);
    put_all(&client, &order).await;
    order.sort();
    assert_eq!(client.list("", "").await.unwrap(), order);
    check_comparisons(&client, &order).await;
}

#[tokio::test]
async fn compares_over_four_shards() {
    let server = Server::start(4, &[]);
    let client = connect(&server).await;
    let order: Vec<String> = (0..40).map(|i| format!("key-{i:03}")).collect();
    put_all(&client, &order).await;
    check_comparisons(&client, &order).await;
}

#[tokio::test]
async fn keeps_a_partition_on_one_shard() {
    let server = Server::start(4, &[]);
    let client = connect(&server).await;
    for (index, key) in ["a", "b", "c", "d", "e"].iter().enumerate() {
        let put = client
            .put(*key, *key)
            .partition_key("together")
            .await
            .unwrap();
        assert_eq!(put.version.version_id, index as i64);
    }
    assert_eq!(
        client
            .list("b", "d")
            .partition_key("together")
            .await
            .unwrap(),
        ["b", "c"]
    );
    let next = client
        .get("c")
        .partition_key("together")
        .comparison(ComparisonType::Higher)
        .await
        .unwrap();
    assert_eq!(next.key, "d");
    client
        .delete_range("a", "e")
        .partition_key("together")
        .await
        .unwrap();
    assert_eq!(client.list("", "").await.unwrap(), ["e"]);
}

#[tokio::test]
async fn scans_five_thousand_records_of_four_shards() {
    let server = Server::start(4, &[]);
    let client = connect(&server).await;
    let all: Vec<String> = (0..5000).map(|i| format!("record-{i:05}")).collect();
    put_all(&client, &all).await;
    let records = client.range_scan("", "").await.unwrap();
    assert_eq!(keys(&records), all);
    assert!(
        records
            .iter()
            .all(|record| value(record) == record.key.as_bytes())
    );
    assert_eq!(
        client
            .list("record-01000", "record-03000")
            .await
            .unwrap()
            .len(),
        2000
    );
}

#[tokio::test]
async fn stores_empty_values_and_unicode_keys() {
    let server = Server::start(4, &[]);
    let client = connect(&server).await;
    client.put("empty", "").await.unwrap();
    assert_eq!(value(&client.get("empty").await.unwrap()), b"");
    for key in [
        "é",
        "e\u{301}",
        "日本語/キー",
        "🦀",
        "\u{10ffff}",
        "\0",
        "a\0b",
        "",
    ] {
        client.put(key, key).await.unwrap();
        assert_eq!(value(&client.get(key).await.unwrap()), key.as_bytes());
    }
    assert_eq!(client.list("", "").await.unwrap().len(), 9);
}

#[tokio::test]
async fn names_a_missing_namespace() {
    let server = Server::start(1, &[]);
    let result = OxiaClient::builder()
        .service_address(server.address())
        .namespace("missing")
        .build()
        .await;
    let error = result.expect_err("no client for a missing namespace");
    assert!(error.to_string().contains("namespace not found"), "{error}");
}

#[tokio::test]
async fn reconnects_after_a_restart() {
    for shards in [1, 4] {
        let mut server = Server::start(shards, &[]);
        let address = server.address().to_string();
        let client = connect(&server).await;
        let before: Vec<String> = (0..200).map(|i| format!("before-{i}")).collect();
        put_all(&client, &before).await;
        for round in 0..2 {
            server.restart();
            assert_eq!(server.address(), address);
            let key = format!("after-{round}");
            eventually(|| client.put(key.clone(), key.clone()).into_future()).await;
            for key in &before {
                let read = eventually(|| client.get(key.clone()).into_future()).await;
                assert_eq!(value(&read), key.as_bytes());
            }
            assert_eq!(
                eventually(|| client.list("", "").into_future()).await.len(),
                before.len() + round + 1
            );
        }
    }
}
