//! Templates: what they take, and what an argument can never become.

use super::*;
use serde_json::json;

fn fill(url: &str, arguments: &Value) -> Result<String, String> {
    let template = Template::parse(url, Method::Get, None)?;
    let filled = template.fill(arguments.as_object().unwrap());
    filled
        .map(|filling| filling.url.to_string())
        .map_err(|failure| failure.message)
}

#[test]
fn an_argument_stays_in_its_place() {
    let url = "https://api.example.com:8443/v1/items/{id}.json?q={q}&lang=en&tag=a%20b";
    for (id, q, expected) in [
        ("7", "x", "items/7.json?q=x&lang=en&tag=a+b"),
        ("a/b", "a&b=c", "items/a%2Fb.json?q=a%26b%3Dc&lang=en&tag=a+b"),
        (
            "@evil.example",
            "é #",
            "items/%40evil.example.json?q=%C3%A9+%23&lang=en&tag=a+b",
        ),
        (
            "%2f%00",
            "%0d%0aX: 1",
            "items/%252f%2500.json?q=%250d%250aX%3A+1&lang=en&tag=a+b",
        ),
        ("?x#y", "\r\nX: 1", "items/%3Fx%23y.json?q=%0D%0AX%3A+1&lang=en&tag=a+b"),
        ("//evil", "{q}", "items/%2F%2Fevil.json?q=%7Bq%7D&lang=en&tag=a+b"),
    ] {
        let filled = fill(url, &json!({"id": id, "q": q})).unwrap();
        assert_eq!(filled, format!("https://api.example.com:8443/v1/{expected}"));
    }
}

#[test]
fn what_would_leave_its_place_is_refused() {
    let refused = |url: &str, arguments: &Value| {
        assert!(fill(url, arguments).is_err(), "{url} {arguments}");
    };
    for id in [
        "",
        ".",
        "..",
        "../admin",
        "a/../b",
        "..\\admin",
        "%2e%2E",
        "a\r\nb",
        "a\u{0}",
        "./x",
    ] {
        refused("https://a.example/x/{id}", &json!({"id": id}));
    }
    refused("https://a.example/x/{a}{b}/y", &json!({"a": ".", "b": "."}));
    refused("https://a.example/x/.{a}", &json!({"a": "."}));
    refused("https://a.example/x/{a}%2e", &json!({"a": "a/."}));
    refused("https://a.example/{id}", &json!({"id": "a".repeat(9_000)}));
    refused("https://a.example/{id}", &json!({}));
    for url in [
        "https://{host}/x",
        "https://{a}.example.com/",
        "ftp://a.example/",
        "a.example/x",
        "https://u:p@a.example/",
        "https://a.example/#x",
        "https://a.example/../x",
        "https://a.example/%2e%2E/x",
        "https://a.example/{",
        "https://a.example/{a b}",
        "https://a.example/?{q}=1",
        "https://",
        "{url}",
        "https://a.example\\{x}/",
    ] {
        assert!(Template::parse(url, Method::Get, None).is_err(), "{url}");
    }
}

#[test]
fn what_has_no_place_goes_where_there_is_room() {
    let url = "https://a.example/x/{id}?q={q}&fixed=1";
    let get = fill(url, &json!({"id": 1, "more": true})).unwrap();
    assert_eq!(get, "https://a.example/x/1?fixed=1&more=true");
    assert_eq!(fill("https://a.example", &json!({})).unwrap(), "https://a.example/");
    let send = |body: Option<&Value>, arguments: &Value| {
        let template = Template::parse(url, Method::Post, body).unwrap();
        template.fill(arguments.as_object().unwrap()).unwrap().body.unwrap()
    };
    assert_eq!(
        send(None, &json!({"id": "a", "q": "b", "n": 1, "l": [1]})),
        json!({"n": 1, "l": [1]})
    );
    let body =
        json!({"n": "{n}", "s": "say \"{s}\" {{x}}", "gone": "{gone}", "list": ["{n}", "{gone}", 1], "fixed": null});
    assert_eq!(
        send(Some(&body), &json!({"id": "a", "n": 1.5, "s": "\",\"admin\":true"})),
        json!({"n": 1.5, "s": "say \"\",\"admin\":true\" {x}", "list": [1.5, 1], "fixed": null}),
    );
    assert!(Template::parse(url, Method::Get, Some(&json!({}))).is_err());
}
