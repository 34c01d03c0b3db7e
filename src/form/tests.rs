//! Forms as browsers, curl and others send them, in pieces of every size; and those that are rejected.

use std::io::Read;

use super::{
    fuzz::{self, Outcome},
    *,
};

const URLENCODED: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=AaB03x";

/// Parses a body: as a whole, in pieces of each size, and in two pieces at each position. All must be the same.
#[track_caller]
fn parse(content_type: &str, body: &[u8]) -> Outcome {
    parse_with(content_type, FormLimits::default(), body)
}

#[track_caller]
fn parse_with(content_type: &str, limits: FormLimits, body: &[u8]) -> Outcome {
    let content_type = content_type.as_bytes();
    let whole = Outcome::of(content_type, limits, [body]);
    for size in 1..body.len() {
        assert_eq!(Outcome::of(content_type, limits, body.chunks(size)), whole, "in pieces of {size}");
    }
    for at in 0..=body.len() {
        let (first, second) = body.split_at(at);
        assert_eq!(Outcome::of(content_type, limits, [first, second]), whole, "in two pieces, at {at}");
    }
    whole
}

/// Returns the names and values of a form that is accepted.
#[track_caller]
fn pairs(content_type: &str, body: &str) -> Vec<(String, String)> {
    let outcome = parse(content_type, body.as_bytes());
    assert_eq!(outcome.error, None, "{body:?}");
    assert!(outcome.fields.iter().all(|(.., has_ended)| *has_ended), "{body:?}");
    let text = |(field, value, _): &(Field, Vec<u8>, bool)| {
        (field.name().to_owned(), String::from_utf8_lossy(value).into_owned())
    };
    outcome.fields.iter().map(text).collect()
}

/// A part of a multipart form.
fn part(head: &str, value: &str) -> String {
    format!("--AaB03x\r\n{head}\r\n\r\n{value}\r\n")
}

const END: &str = "--AaB03x--\r\n";

#[test]
fn urlencoded_forms_are_decoded_as_by_the_standard() {
    for (body, expected) in [
        ("", &[][..]),
        ("&&", &[]),
        ("a=1", &[("a", "1")]),
        ("a=1&b=2", &[("a", "1"), ("b", "2")]),
        ("a&b=&=c&=&&d", &[("a", ""), ("b", ""), ("", "c"), ("", ""), ("d", "")]),
        ("a=b=c", &[("a", "b=c")]),
        ("a+b=c+d%20e", &[("a b", "c d e")]),
        ("%61=%62%2B%26%3D", &[("a", "b+&=")]),
        ("a%00b=%0d%0A", &[("a\0b", "\r\n")]),
        ("a=%&b=%4&c=%zz&d=%%41&%=%", &[("a", "%"), ("b", "%4"), ("c", "%zz"), ("d", "%A"), ("%", "%")]),
        ("a=%4&%4=%4%", &[("a", "%4"), ("%4", "%4%")]),
        ("a=%C3%BC\u{fc}&b=\r\n", &[("a", "\u{fc}\u{fc}"), ("b", "\r\n")]),
        ("a=%ff", &[("a", "\u{fffd}")]),
    ] {
        let pairs = pairs(URLENCODED, body);
        assert_eq!(pairs.iter().map(|(a, b)| (&**a, &**b)).collect::<Vec<_>>(), expected, "{body:?}");
        let standard = form_urlencoded::parse(body.as_bytes()).map(|(a, b)| (a.into_owned(), b.into_owned()));
        assert_eq!(standard.collect::<Vec<_>>(), pairs, "{body:?}");
    }
}

#[test]
fn a_long_value_comes_in_events_of_bounded_size() {
    let body = format!("a={}&b=1", "x%20".repeat(100_000));
    let mut parser = FormParser::new(URLENCODED.as_bytes(), FormLimits::default()).expect("a form");
    let (mut piece, mut total) = (body.as_bytes(), 0);
    while let Some(event) = parser.next(&mut piece).expect("accepted") {
        if let Event::Data(data) = event {
            assert!(data.len() <= 4096);
            total += data.len();
        }
    }
    assert_eq!(total, 200_001);
    assert!(matches!(parser.finish(), Ok(Some(Event::FieldEnd))));
    assert!(matches!(parser.finish(), Ok(None)));
}

#[test]
fn a_multipart_form_has_fields_and_files() {
    let body = [
        part("Content-Disposition: form-data; name=\"title\"", "Hello"),
        part("content-disposition:form-data;name=empty", ""),
        part(
            "Content-Disposition: form-data; name=\"f\"; filename=\"gr\u{fc}n (1).txt\"\r\nContent-Type: text/plain\r\n\
             Content-Transfer-Encoding: binary\r\nX-Other: 1",
            "a\r\n--AaB03\r\r\n--\r\n-\r\n\r",
        ),
        part("Content-Disposition: form-data; name=\"none\"; filename=\"\"", ""),
        END.to_owned(),
    ]
    .concat();
    let outcome = parse(MULTIPART, body.as_bytes());
    assert_eq!(outcome.error, None);
    let [title, empty, file, none] = &outcome.fields[..] else { panic!("{outcome:?}") };
    assert_eq!((title.0.name(), title.0.filename(), &title.1[..]), ("title", None, &b"Hello"[..]));
    assert_eq!((title.0.content_type(), title.0.transfer_encoding()), (None, None));
    assert_eq!((empty.0.name(), &empty.1[..]), ("empty", &b""[..]));
    assert_eq!((file.0.name(), file.0.filename()), ("f", Some("gr\u{fc}n (1).txt")));
    assert_eq!((file.0.content_type(), file.0.transfer_encoding()), (Some("text/plain"), Some("binary")));
    assert_eq!(file.1, b"a\r\n--AaB03\r\r\n--\r\n-\r\n\r");
    assert_eq!((none.0.filename(), &none.1[..]), (Some(""), &b""[..]));
}

#[test]
fn the_boundary_may_have_text_around_it() {
    let field = part("Content-Disposition: form-data; name=a", "1");
    for body in [
        format!("{field}{END}"),
        format!("{field}--AaB03x--"),
        format!("\r\n{field}{END}"),
        format!("preamble --AaB03x\r\n-\r\r\n--AaB03\r\n{field}{END}epilogue\r\n--AaB03x\r\n"),
        format!("{field}{END}").replace("--AaB03x\r\n", "--AaB03x \t \r\n"),
        // Without the CR LF that belongs to the delimiter of an empty value, the value is empty, too.
        format!("{field}--AaB03x\r\nContent-Disposition: form-data; name=b\r\n\r\n{END}"),
    ] {
        let pairs = pairs(MULTIPART, &body);
        assert_eq!(pairs[0], ("a".into(), "1".into()), "{body:?}");
        assert!(pairs[1..].iter().all(|pair| *pair == ("b".into(), String::new())), "{body:?}");
    }
    assert_eq!(pairs(MULTIPART, END), []);
}

#[test]
fn the_content_type_is_read_as_a_media_type_with_parameters() {
    let body = format!("{}{END}", part("Content-Disposition: form-data; name=a", "1"));
    for content_type in [
        "Multipart/Form-Data;BOUNDARY=AaB03x",
        "multipart/form-data ; charset=utf-8 ; boundary=\"AaB03x\" ;",
        "multipart/form-data, boundary=AaB03x", // RFC 1867
    ] {
        assert_eq!(pairs(content_type, &body).len(), 1, "{content_type}");
    }
    let quoted = "multipart/form-data; boundary=\"a b:c\"";
    assert_eq!(pairs(quoted, &body.replace("AaB03x", "a b:c")).len(), 1);
    assert_eq!(pairs("application/x-www-form-urlencoded; charset=UTF-8", "a=1").len(), 1);
    let long = |n| format!("multipart/form-data; boundary={}", "x".repeat(n));
    assert_eq!(FormParser::new(long(70).as_bytes(), FormLimits::default()).err(), None);
    for (content_type, error) in [
        ("", FormError::NotAForm),
        ("text/plain", FormError::NotAForm),
        ("multipart/mixed; boundary=b", FormError::NotAForm),
        ("application/x-www-form-urlencodedx", FormError::NotAForm),
        ("multipart/form-data", FormError::Boundary),
        ("multipart/form-data; boundary=", FormError::Boundary),
        ("multipart/form-data; boundary=\"\"", FormError::Boundary),
        ("multipart/form-data; boundary=\"a ", FormError::Boundary),
        ("multipart/form-data; boundary=\"a \"", FormError::Boundary),
        ("multipart/form-data; boundary=\"a\rb\"", FormError::Boundary),
        ("multipart/form-data; boundary=a; boundary=a", FormError::Boundary),
        ("multipart/form-data; boundary=a; x", FormError::Boundary),
        (&long(71), FormError::Boundary),
    ] {
        let parser = FormParser::new(content_type.as_bytes(), FormLimits::default());
        assert_eq!(parser.err(), Some(error), "{content_type:?}");
    }
}

#[test]
fn a_nested_multipart_has_several_files_of_one_field() {
    let inner = "--BbC04y\r\nContent-Disposition: file; filename=\"1.txt\"\r\nContent-Type: text/plain\r\n\r\none\r\n\
                 --BbC04y\r\nContent-Disposition: attachment; filename=\"2.gif\"\r\n\
                 Content-Transfer-Encoding: binary\r\n\r\ntwo\r\n--AaB03x\r\n\r\n\
                 --BbC04y \r\n\r\nwithout a head\r\n--BbC04y--\r\n";
    let head = "Content-Disposition: form-data; name=\"files\"\r\nContent-Type: multipart/mixed";
    for separator in ["; ", ", "] {
        let body = [
            part(&format!("{head}{separator}boundary=BbC04y"), inner),
            part("Content-Disposition: form-data; name=\"last\"", "1"),
            END.to_owned(),
        ]
        .concat();
        let outcome = parse(MULTIPART, body.as_bytes());
        assert_eq!(outcome.error, None);
        let fields = outcome.fields.iter().map(|(field, value, _)| {
            let value = std::str::from_utf8(value).expect("text");
            (field.name(), field.filename(), field.content_type(), field.transfer_encoding(), value)
        });
        assert_eq!(
            fields.collect::<Vec<_>>(),
            [
                ("files", Some("1.txt"), Some("text/plain"), None, "one"),
                ("files", Some("2.gif"), None, Some("binary"), "two\r\n--AaB03x\r\n"),
                ("files", None, None, None, "without a head"),
                ("last", None, None, None, "1"),
            ]
        );
    }
    for (boundary, error) in [
        ("", FormError::Boundary),
        ("; boundary=AaB03x", FormError::Boundary),
        ("; boundary=other", FormError::Unfinished),
    ] {
        let body = format!("{}{END}", part(&format!("{head}{boundary}"), inner));
        assert_eq!(parse(MULTIPART, body.as_bytes()).error, Some(error), "{boundary}");
    }
}

#[test]
fn names_keep_what_browsers_send() {
    for (sent, name) in [
        (r#""a%22b""#, "a%22b"),   // browsers
        (r#""a\"b\\""#, "a\"b\\"), // curl before 7.81
        (r#""C:\dir\a.txt""#, r"C:\dir\a.txt"),
        ("\"a;b=c\"", "a;b=c"),
        ("token", "token"),
        ("\"\"", ""),
    ] {
        let head = format!("Content-Disposition: form-data; name={sent}; filename={sent}; filename*=utf-8''x");
        let outcome = parse(MULTIPART, format!("{}{END}", part(&head, "")).as_bytes());
        assert_eq!(outcome.fields[0].0.name(), name);
        assert_eq!(outcome.fields[0].0.filename(), Some(name));
    }
    let body = b"--AaB03x\r\nContent-Disposition: form-data; name=\"\xfca\"\r\n\r\n\r\n--AaB03x--";
    let outcome = parse(MULTIPART, body);
    assert_eq!((outcome.fields[0].0.name(), outcome.fields[0].0.name_bytes()), ("\u{fffd}a", &b"\xfca"[..]));
}

#[test]
fn malformed_forms_are_rejected() {
    let disposition = "Content-Disposition: form-data; name=a";
    let with_head = |head: &str| format!("{}{END}", part(head, "1"));
    for (body, error) in [
        (String::new(), FormError::Unfinished),
        ("preamble".to_owned(), FormError::Unfinished),
        ("--AaB03x".to_owned(), FormError::Unfinished),
        ("--AaB03x-".to_owned(), FormError::Unfinished),
        (part(disposition, "1"), FormError::Unfinished),
        (format!("{}--AaB03x", part(disposition, "1")), FormError::Unfinished),
        (format!("--AaB03x\r\n{disposition}\r\n"), FormError::Unfinished),
        ("--AaB03x\n".to_owned(), FormError::Delimiter),
        ("--AaB03xy\r\n".to_owned(), FormError::Delimiter),
        ("--AaB03x \ry".to_owned(), FormError::Delimiter),
        ("--AaB03x-\r\n".to_owned(), FormError::Delimiter),
        ("--AaB03x --".to_owned(), FormError::Delimiter),
        (part(disposition, "1\r\n--AaB03xy"), FormError::Delimiter),
        ("--AaB03x\r\n\r\n1".to_owned(), FormError::Disposition),
        (with_head("Content-Type: text/plain"), FormError::Disposition),
        (with_head("Content-Disposition: form-data"), FormError::Disposition),
        (with_head("Content-Disposition: form-data; filename=x"), FormError::Disposition),
        (with_head("Content-Disposition: attachment; name=a"), FormError::Disposition),
        (with_head("Content-Disposition: form-data; name=a; name=b"), FormError::Disposition),
        (with_head("Content-Disposition: form-data; name=\"a"), FormError::Disposition),
        (with_head("Content-Disposition: form-data; name=a b"), FormError::Disposition),
        (with_head(&format!("{disposition}\r\n{disposition}")), FormError::PartHead),
        (with_head(&format!("{disposition}\r\nContent-Type: a/b\r\ncontent-type: a/b")), FormError::PartHead),
        (with_head(&format!("{disposition};\r\n filename=x")), FormError::PartHead),
        (with_head(&format!("{disposition}\nX: y")), FormError::PartHead),
        (with_head(&format!("{disposition}\rX: y")), FormError::PartHead),
        (with_head(&format!("{disposition}\r\nX: \0")), FormError::PartHead),
        (with_head("Content-Disposition : form-data; name=a"), FormError::PartHead),
        (with_head("no colon"), FormError::PartHead),
    ] {
        assert_eq!(parse(MULTIPART, body.as_bytes()).error, Some(error), "{body:?}");
    }
}

#[test]
fn limits_hold() {
    let limits = FormLimits { fields: 2, head: 60 };
    let head = |n| format!("Content-Disposition: form-data; name={}", "x".repeat(n));
    let longest = 60 - 4 - head(0).len(); // two line ends
    let multipart = |names: &[usize]| {
        let parts: String = names.iter().map(|n| part(&head(*n), &"y".repeat(100))).collect();
        parse_with(MULTIPART, limits, format!("{parts}{END}").as_bytes())
    };
    assert_eq!(multipart(&[1, longest]).error, None);
    let outcome = multipart(&[1, longest + 1]);
    assert_eq!((outcome.error, outcome.fields.len()), (Some(FormError::HeadTooLarge), 1));
    assert_eq!(multipart(&[1, 1, 1]).error, Some(FormError::TooManyFields));

    let urlencoded = |body: &str| parse_with(URLENCODED, limits, body.as_bytes());
    let name = "x".repeat(60);
    assert_eq!(urlencoded(&format!("a={}&{name}", "y".repeat(100))).error, None);
    for body in
        [format!("{name}x"), format!("{name}x=1"), format!("{name}%"), format!("{name}%4"), format!("{name}%41")]
    {
        assert_eq!(urlencoded(&body).error, Some(FormError::HeadTooLarge), "{body}");
    }
    assert_eq!(urlencoded(&format!("{}=1", "%41".repeat(60))).error, None);
    assert_eq!(urlencoded("a&b=&&").error, None);
    let outcome = urlencoded("a&b=&c");
    assert_eq!((outcome.error, outcome.fields.len()), (Some(FormError::TooManyFields), 2));
}

/// Pieces of forms, put together at random: all divisions have the same events.
#[test]
fn random_forms_do_not_depend_on_their_pieces() {
    const WORDS: &[&str] = &[
        "\r\n",
        "--b",
        "--",
        "-",
        "\r",
        "\n",
        "a",
        "=",
        "&",
        "%",
        "%4",
        "%41",
        "+",
        ";",
        ",",
        "\"",
        "\\",
        "\0",
        "\u{fc}",
        "Content-Disposition: form-data; name=a\r\n",
        "Content-Disposition: file; filename=\"x\"\r\n",
        "Content-Type: multipart/mixed; boundary=i\r\n",
        "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n",
        "--i\r\n\r\nw\r\n",
        "--i--",
        "--b--",
        "--b\r\n",
        "\r\n\r\n",
        "multipart/form-data; boundary=b\n",
        "value",
        " ",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for _ in 0..20_000 {
        let mut data = vec![random(256) as u8];
        for _ in 0..random(24) {
            data.extend_from_slice(WORDS[random(WORDS.len())].as_bytes());
        }
        fuzz::form(&data);
    }
}

#[test]
fn a_form_is_found_by_its_names() {
    let form = Form::parse(URLENCODED.as_bytes(), b"a=1&b=%ff&a=2&a", FormLimits::default()).expect("a form");
    assert_eq!((form.text("a"), form.text("b"), form.text("A")), (Some("1"), None, None));
    assert_eq!(form.get("b").map(|entry| &entry.value[..]), Some(&b"\xff"[..]));
    assert_eq!(form.all("a").map(|entry| &entry.value[..]).collect::<Vec<_>>(), [&b"1"[..], b"2", b""]);
    assert_eq!(form.entries().len(), 4);
    assert!(!format!("{form:?}").contains("\"1\""), "values are not printed");
    assert_eq!(Form::parse(b"text/plain", b"", FormLimits::default()).err(), Some(FormError::NotAForm));
    assert_eq!(Form::parse(MULTIPART.as_bytes(), b"", FormLimits::default()).err(), Some(FormError::Unfinished));
}

#[test]
fn a_reader_skips_what_is_not_read() {
    let body = [
        part("Content-Disposition: form-data; name=a", &"x".repeat(50_000)),
        part("Content-Disposition: form-data; name=b", "\r\n-"),
        END.to_owned(),
    ]
    .concat();
    let parser = FormParser::new(MULTIPART.as_bytes(), FormLimits::default()).expect("a form");
    let mut form = FormReader::new(parser, body.as_bytes());
    assert_eq!(form.read(&mut [0; 8]).expect("read"), 0, "there is no field yet");
    assert_eq!(form.next_field().expect("read").expect("a field").name(), "a");
    let mut some = [0; 10];
    form.read_exact(&mut some).expect("read");
    assert_eq!(&some, b"xxxxxxxxxx");
    assert_eq!(form.next_field().expect("read").expect("a field").name(), "b");
    let mut all = String::new();
    form.read_to_string(&mut all).expect("read");
    assert_eq!((&*all, form.read(&mut some).expect("read")), ("\r\n-", 0));
    assert!(form.next_field().expect("read").is_none());
}

#[test]
fn errors_have_a_status() {
    for (error, status) in [
        (FormError::NotAForm, 415),
        (FormError::TooManyFields, 413),
        (FormError::HeadTooLarge, 413),
        (FormError::Boundary, 400),
        (FormError::Unfinished, 400),
    ] {
        assert_eq!((error.status(), crate::api::Response::from(error).status()), (status, status));
    }
}
