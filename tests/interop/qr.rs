//! The relay's QR codes, read by another library.

use crate::page::qr::{MAX_LINK, draw};

#[test]
fn what_is_drawn_is_the_link() {
    let longest = format!("https://relay.example/{}", "x".repeat(MAX_LINK - 22));
    let usual = ["https://relay.example/#file=7f3c2f0e-6c0a-4b4e-9d6a-0e6f2f6f3c55", "http://[::1]:8080/#text=a-b_c"];
    for link in usual.into_iter().chain([longest.as_str()]) {
        assert_eq!(read(&draw(link).unwrap()), link);
    }
}

/// Reads the code again: its dark rectangles (`M4 4h7v1H4V4`), as pixels.
fn read(svg: &str) -> String {
    let size: usize = svg.split_once("width=\"").unwrap().1.split_once('"').unwrap().0.parse().unwrap();
    let mut pixels = vec![255; size * size];
    for rectangle in svg.split_once(" d=\"").unwrap().1.split_once('"').unwrap().0.split('M').skip(1) {
        let numbers = rectangle.split([' ', 'h', 'v', 'H', 'V']).map(|n| n.parse::<usize>().unwrap());
        let [x, y, width, height] = numbers.take(4).collect::<Vec<_>>().try_into().unwrap();
        (y..y + height).for_each(|y| pixels[y * size + x..][..width].fill(0));
    }
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(size, size, |x, y| pixels[y * size + x]);
    let codes = image.detect_grids();
    assert_eq!(codes.len(), 1);
    codes[0].decode().unwrap().1
}
