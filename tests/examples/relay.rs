//! `relay`: the commands of the README.

use super::*;

#[cfg(not(feature = "relay"))]
pub(super) fn relay_passes_a_file_on(_: Setup) {}

#[cfg(feature = "relay")]
pub(super) fn relay_passes_a_file_on(setup: Setup) {
    let relay = Example::start("relay", setup, &[]);
    let page = relay.ask("GET /", &[]);
    assert!(page.assert(200).text().contains("curl"));

    let mut host = relay.client();
    let session = host.request("PUT /cama/session", &["Content-Length: 0"]).response();
    let path = session.assert(201).get("location").expect("a session").to_owned();
    let cookie = session.get("set-cookie").and_then(|cookie| cookie.split(';').next()).expect("a token").to_owned();

    let file = noise(5 << 20);
    let (sent, guest_path) = (file.clone(), path.clone());
    let mut guest = relay.client();
    let sender = std::thread::spawn(move || guest.post(&guest_path, &[], &sent).response().status);
    let received = host.request(&format!("GET {path}"), &[&format!("Cookie: {cookie}")]).response();
    assert_eq!(received.assert(200).get("content-length"), Some(&*file.len().to_string()));
    assert!(received.body == file, "byte for byte");
    assert!((200..300).contains(&sender.join().expect("sent")));
    relay.stop();
}

/// The lines of the README, unchanged.
#[cfg(feature = "relay")]
#[test]
fn relay_works_with_curl_where_there_is_one() {
    let version = Command::new("curl").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version);
    let version: Vec<u32> = version.split([' ', '.']).skip(1).map_while(|n| n.parse().ok()).collect();
    if version < vec![7, 84] {
        return; // `%header{}` is not older
    }
    let dir = Dir::new();
    let file = dir.file("photo.jpg", noise(1 << 20));
    for tls in [false, true] {
        let relay = Example::start("relay", Setup { tls, ..PLAIN }, &[]);
        let url = format!("{}://localhost:{}", relay.scheme, relay.addr.port());
        let script = "set -e; cd \"$DIR\"\n\
            S=$U/stream/$(curl -s -4 --cacert $CA -X POST $U/stream | cut -d '\"' -f 4)\n\
            curl -s -4 --cacert $CA -T photo.jpg $S &\n\
            curl -s -4 --cacert $CA -o copy.jpg $S\n\
            wait $!\n\
            cmp photo.jpg copy.jpg; rm copy.jpg\n\
            curl -s -4 --cacert $CA $S/status | grep -q FINISHED\n\
            S=$U$(curl -s -4 --cacert $CA -c jar.txt -o /dev/null -w '%header{location}' -X PUT $U/cama/session)\n\
            curl -s -4 --cacert $CA -X POST -T photo.jpg $S &\n\
            curl -s -4 --cacert $CA -b jar.txt -o copy.jpg $S\n\
            wait $!\n";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).env("U", &url).env("DIR", &dir.0).env("CA", &identity().cert);
        let output = shell.output().expect("a shell");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut copy = Vec::new();
        File::open(dir.0.join("copy.jpg")).and_then(|mut copy_of| copy_of.read_to_end(&mut copy)).expect("a copy");
        assert!(copy == fs::read(&file).expect("the file"));
        fs::remove_file(dir.0.join("copy.jpg")).expect("removed");
        relay.stop();
    }
}
