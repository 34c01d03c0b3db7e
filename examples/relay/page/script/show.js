'use strict';
// One job at a time: either this page sends (`role: 'sender'`), or it was opened by a link and receives. The bytes are
// transferred by PUT and GET of one stream of the rendezvous. Both sides poll the stream's status for progress.
const $ = (id) => document.getElementById(id);
const STREAM = document.body.dataset.stream;
const TTL = Number(document.body.dataset.ttl);
const TEXT_SHOWN = 4 << 20;
const STATUS_TIMEOUT = 10_000;
// Field of the sender's stream with the id of the stream that reports the opening. It is one of the fields for the
// sender, so downloads do not have it.
const OPENED = 'X-Opened-Stream';
const VIEWS = ['home', 'share', 'offer', 'transfer', 'message', 'over'];

// The current job: { role, kind, name, size, id, ... }. Code that has awaited something checks that it is still current.
let job = null;

// True if only this computer reaches the address that the page was opened at. A URL has each address in one spelling.
const LOCAL = /^((.+\.)?localhost\.?|127(\.\d+){3}|0\.0\.0\.0|\[::1?\]|\[::ffff:7f[\da-f]{2}:[\da-f]+\])$/
  .test(location.hostname);

for (const element of document.querySelectorAll('.origin')) element.textContent = location.origin;

// ---- Display

function show(view) {
  for (const id of VIEWS) $(id).hidden = id !== view;
  $('without').hidden = view !== 'home';
  const heading = $(view).querySelector('h1');
  if (document.body.dataset.shown) heading.focus({ preventScroll: false });
  document.body.dataset.shown = view;
  document.title = view === 'home' ? 'Relay' : `${heading.textContent} · Relay`;
}

function bytes(n) {
  const units = ['byte', 'kilobyte', 'megabyte', 'gigabyte', 'terabyte'];
  let at = 0;
  while (n >= 999.5 && at < units.length - 1) { n /= 1000; at += 1; }
  const style = { style: 'unit', unit: units[at], unitDisplay: at ? 'short' : 'long', maximumFractionDigits: n < 10 && at ? 1 : 0 };
  return new Intl.NumberFormat('en', style).format(n);
}

function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s >= 5400) return `${Math.round(s / 3600)} hours`;
  if (s >= 90) return `${Math.round(s / 60)} minutes`;
  return s === 1 ? '1 second' : `${s} seconds`;
}

// Removes characters that change the direction of text: "exe.jpg" must not look like "gpj.exe".
const plain = (name) => name.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '');
