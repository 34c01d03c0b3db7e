//! Forms that are received as a whole, and cookies, over connections.

use uncork::{
    Request, Response,
    cookie::{self, SetCookie},
    form,
};

use crate::world::World;

matrix! {
    everywhere {
        a_form_is_received_as_a_whole,
        what_is_not_a_form_gets_its_status,
        a_cookie_comes_back,
    }
}

const URLENCODED: &str = "Content-Type: application/x-www-form-urlencoded";

fn a_form_is_received_as_a_whole(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| {
        form::receive(req, 400, |form| {
            let [name, file] = ["name", "file"].map(|name| form.text(name).unwrap_or("none").to_owned());
            Response::text(format!("{name}, {file}, {}", form.entries().len()))
        })
    });
    let mut wire = host.connect();
    let response = wire.post("/", &[URLENCODED], b"name=a+b&x&file=%43").response();
    assert_eq!((response.status, &response.body[..]), (200, &b"a b, C, 3"[..]));
    let response = wire.post("/", &[URLENCODED], b"").response();
    assert_eq!((response.status, &response.body[..]), (200, &b"none, none, 0"[..]));
    let body = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x\"\r\n\r\nhello\r\n--b--\r\n";
    let multipart = "Content-Type: multipart/form-data; boundary=b";
    let response = wire.post("/", &[multipart], body.as_bytes()).response();
    assert_eq!((response.status, &response.body[..]), (200, &b"none, hello, 1"[..]));
    // A request without a body has no fields.
    let response = wire.request("GET /", &[URLENCODED]).response();
    assert_eq!((response.status, &response.body[..]), (200, &b"none, none, 0"[..]));
}

fn what_is_not_a_form_gets_its_status(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| form::receive(req, 8000, |_| Response::new(204)));
    let multipart = "Content-Type: multipart/form-data; boundary=b";
    for (field, body, status) in [
        (URLENCODED, "a=1".to_owned(), 204),
        ("X: y", "a=1".to_owned(), 415),
        ("Content-Type: application/json", "{}".to_owned(), 415),
        ("Content-Type: multipart/form-data", String::new(), 400),
        (multipart, "--b\r\n\r\n".to_owned(), 400),
        (multipart, "--b\r\n".to_owned(), 400), // known at its end
        (URLENCODED, "x".repeat(8001), 413),
        (URLENCODED, "a&".repeat(1001), 413),
    ] {
        let response = host.connect().post("/", &[field], body.as_bytes()).response();
        assert_eq!(response.status, status, "{field}");
    }
}

fn a_cookie_comes_back(world: &World) {
    let host = world.serve(|req: &mut Request<'_>| {
        let id = cookie::get(req, "id").unwrap_or("none").to_owned();
        match SetCookie::new("id", &id).path("/").http_only().build() {
            Ok(value) => Response::text(id).header("Set-Cookie", value).header("Set-Cookie", "other=1"),
            Err(error) => Response::text(error.to_string()).with_status(400),
        }
    });
    let mut wire = host.connect();
    for (fields, status, id) in [
        (&[][..], 200, "none"),
        (&["Cookie: id=31d4"], 200, "31d4"),
        (&["Cookie: a=b; id=1; id=2"], 200, "1"),
        (&["Cookie: a=b", "cookie: ID=1;id=2"], 200, "2"),
        (&["Cookie: id=a b"], 400, "' ' is not allowed in the value of a cookie"),
    ] {
        let response = wire.request("GET /", fields).response();
        assert_eq!((response.status, std::str::from_utf8(&response.body)), (status, Ok(id)), "{fields:?}");
        if status == 200 {
            let is_cookie = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("set-cookie");
            let cookies: Vec<&str> = response.fields.iter().filter(is_cookie).map(|(_, value)| &**value).collect();
            assert_eq!(cookies, [&*format!("id={id}; Path=/; HttpOnly"), "other=1"]);
        }
    }
}
